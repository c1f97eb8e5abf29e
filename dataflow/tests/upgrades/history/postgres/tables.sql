SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.dead_letters (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    key bytea,
    payload bytea,
    record_time timestamp with time zone,
    epoch bigint NOT NULL,
    replayed_at timestamp with time zone
);
CREATE TABLE public.progress (
    pipeline text NOT NULL,
    epoch bigint NOT NULL,
    watermark timestamp with time zone,
    fence bigint NOT NULL,
    fingerprint text NOT NULL,
    hash_key bytea NOT NULL,
    checkpoints jsonb NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    run text,
    heartbeat_at timestamp with time zone,
    trouble text,
    schema_version integer,
    metrics text,
    hours_from timestamp with time zone,
    days_from timestamp with time zone
)
WITH (fillfactor='50');
CREATE TABLE public.progress_history (
    pipeline text NOT NULL,
    watermark timestamp with time zone NOT NULL,
    epoch bigint NOT NULL,
    taken_at timestamp with time zone NOT NULL,
    highest bigint,
    partitions jsonb NOT NULL,
    checksum bigint NOT NULL
);
CREATE TABLE public.progress_partitions (
    pipeline text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    start_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    watermark timestamp with time zone,
    state text NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.stream_metrics_day (
    window_start timestamp with time zone NOT NULL,
    window_end timestamp with time zone NOT NULL,
    stream_id text NOT NULL COLLATE pg_catalog."C",
    active_viewers bigint NOT NULL,
    unique_viewers bigint,
    watch_ms bigint,
    chat_messages bigint NOT NULL,
    unique_chatters bigint,
    donations bigint,
    donations_usd numeric(20,2) NOT NULL,
    donors bigint,
    peak_viewers bigint,
    epoch bigint NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.stream_metrics_hour (
    window_start timestamp with time zone NOT NULL,
    window_end timestamp with time zone NOT NULL,
    stream_id text NOT NULL COLLATE pg_catalog."C",
    active_viewers bigint NOT NULL,
    unique_viewers bigint,
    watch_ms bigint,
    chat_messages bigint NOT NULL,
    unique_chatters bigint,
    donations bigint,
    donations_usd numeric(20,2) NOT NULL,
    donors bigint,
    peak_viewers bigint,
    epoch bigint NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.stream_metrics_minute (
    window_start timestamp with time zone NOT NULL,
    window_end timestamp with time zone NOT NULL,
    stream_id text NOT NULL COLLATE pg_catalog."C",
    active_viewers bigint NOT NULL,
    unique_viewers bigint,
    watch_ms bigint,
    chat_messages bigint NOT NULL,
    unique_chatters bigint,
    donations bigint,
    donations_usd numeric(20,2) NOT NULL,
    donors bigint,
    epoch bigint NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.stream_state (
    stream_id text NOT NULL COLLATE pg_catalog."C",
    active_viewers bigint NOT NULL,
    window_start timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    epoch bigint NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.stream_totals_day (
    window_start timestamp with time zone NOT NULL,
    window_end timestamp with time zone NOT NULL,
    streams bigint NOT NULL,
    active_viewers bigint NOT NULL,
    unique_viewers bigint,
    watch_ms bigint,
    chat_messages bigint NOT NULL,
    unique_chatters bigint,
    donations bigint,
    donations_usd numeric(20,2) NOT NULL,
    donors bigint,
    peak_viewers bigint,
    epoch bigint NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.stream_totals_hour (
    window_start timestamp with time zone NOT NULL,
    window_end timestamp with time zone NOT NULL,
    streams bigint NOT NULL,
    active_viewers bigint NOT NULL,
    unique_viewers bigint,
    watch_ms bigint,
    chat_messages bigint NOT NULL,
    unique_chatters bigint,
    donations bigint,
    donations_usd numeric(20,2) NOT NULL,
    donors bigint,
    peak_viewers bigint,
    epoch bigint NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.stream_totals_minute (
    window_start timestamp with time zone NOT NULL,
    window_end timestamp with time zone NOT NULL,
    streams bigint NOT NULL,
    active_viewers bigint NOT NULL,
    unique_viewers bigint,
    watch_ms bigint,
    chat_messages bigint NOT NULL,
    unique_chatters bigint,
    donations bigint,
    donations_usd numeric(20,2) NOT NULL,
    donors bigint,
    epoch bigint NOT NULL
)
WITH (fillfactor='70');
INSERT INTO public.dead_letters VALUES
	('stream.events', 0, 13200, 'late', 'the window 2026-03-01T11:46:00Z ended 5m 24s before the partition''s watermark, 2026-03-01T11:52:24.047510Z', NULL, '\x7b226576656e745f6964223a223633376330346661313131353165303230303030303030303030303030303134222c226576656e745f74797065223a227669657765725f6a6f696e222c2273747265616d5f6964223a2273747265616d5f30303032222c22757365725f6964223a22757365725f3030303035222c227473223a22323032362d30332d30315431313a34363a35392e3438383233385a227d', '2026-03-01 12:03:05.6+00', 1, NULL),
	('stream.events', 1, 36036, 'late', 'the window 2026-03-01T11:51:00Z ended 57.955s before the partition''s watermark, 2026-03-01T11:52:57.955887Z', NULL, '\x7b226576656e745f6964223a223633376330346661313131353165303230303030303030303030303030303666222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a2273747265616d5f30303031222c22757365725f6964223a22757365725f3030303034222c227473223a22323032362d30332d30315431313a35313a35392e3130353532375a227d', '2026-03-01 12:03:08.8+00', 1, NULL),
	('stream.events', 1, 37600, 'late', 'the window 2026-03-01T11:48:00Z ended 4m 13s before the partition''s watermark, 2026-03-01T11:53:13.329980Z', NULL, '\x7b226576656e745f6964223a223633376330346661313131353165303230303030303030303030303030303264222c226576656e745f74797065223a227669657765725f6a6f696e222c2273747265616d5f6964223a2273747265616d5f30303033222c22757365725f6964223a22757365725f3030303031222c227473223a22323032362d30332d30315431313a34383a34302e3934363439395a227d', '2026-03-01 12:03:40.8+00', 1, NULL),
	('stream.events', 1, 45943, 'late', 'the window 2026-03-01T11:52:00Z ended 3m 35s before the partition''s watermark, 2026-03-01T11:56:35.637011Z', NULL, '\x7b226576656e745f6964223a223633376330346661313131353165303230303030303030303030303030303739222c226576656e745f74797065223a227669657765725f6a6f696e222c2273747265616d5f6964223a2273747265616d5f30303031222c22757365725f6964223a22757365725f3030303031222c227473223a22323032362d30332d30315431313a35323a30392e3732383835345a227d', '2026-03-01 12:07:28+00', 1, NULL),
	('stream.events', 1, 46116, 'late', 'the window 2026-03-01T11:51:00Z ended 4m 35s before the partition''s watermark, 2026-03-01T11:56:35.637011Z', NULL, '\x7b226576656e745f6964223a223633376330346661313131353165303230303030303030303030303030303666222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a2273747265616d5f30303031222c22757365725f6964223a22757365725f3030303034222c227473223a22323032362d30332d30315431313a35313a35392e3130353532375a227d', '2026-03-01 12:07:34.4+00', 1, NULL),
	('stream.events', 1, 56780, 'late', 'the window 2026-03-01T11:59:00Z ended 44.209s before the partition''s watermark, 2026-03-01T12:00:44.209703Z', NULL, '\x7b226576656e745f6964223a223633376330346661313131353165303230303030303030303030303030306535222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a2273747265616d5f30303033222c22757365725f6964223a22757365725f3030303036222c227473223a22323032362d30332d30315431313a35393a33392e3435373136355a227d', '2026-03-01 12:11:47.2+00', 1, NULL);
INSERT INTO public.progress VALUES
	('tidemark', 2, '2026-03-01 12:05:54.938639+00', 1, 'file:stream.events#661817e0ff013-195f window=60s lateness=600000000us future_skew=300000000us viewer_timeout=43200000000us rules=1', '\x5c4c2999fcf3cd8969a737bb18ffe8d7', '[{"id": {"fence": 1, "number": 1, "pipeline": 2880910514}, "open": [29539445, 29539446, 29539447, 29539448, 29539449, 29539450, 29539451, 29539452, 29539453, 29539454, 29539455, 29539456], "parts": [{"bytes": 21568, "checksum": 1585321291}], "metrics": [["active_viewers", 0], ["unique_viewers", 0], ["watch_ms", 0], ["chat_messages", 0], ["unique_chatters", 0], ["donations", 0], ["donations_usd", 0], ["donors", 0], ["peak_viewers", 0]], "version": 7, "taken_at": 1796084994300617, "rolled_up": [0, 0], "watermark": 1772366754938639, "increments": [{"id": {"fence": 1, "number": 1, "pipeline": 2880910514}, "parts": [{"bytes": 6272, "checksum": 2144134846}], "newest": 29539456}], "partitions": {"0": {"highest": 1772367400223630000, "next_offset": 25759}, "1": {"highest": 1772367354938639000, "next_offset": 68121}}}]', '2026-12-01 00:29:54.326398+00', '9a12343fad6fd6e5f1aee8266f108da7', '2026-12-01 00:29:54.326943+00', NULL, 3, 'active_viewers,unique_viewers,watch_ms,chat_messages,unique_chatters,donations,donations_usd,donors,peak_viewers', '1970-01-01 00:00:00+00', '1970-01-01 00:00:00+00');
INSERT INTO public.progress_history VALUES
	('tidemark', '2026-03-01 12:05:54.938639+00', 1, '2026-12-01 00:29:54.302005+00', 1772367400223630000, '{"0": {"highest": 1772367400223630000, "next_offset": 25759}, "1": {"highest": 1772367354938639000, "next_offset": 68121}}', 3240690706);
INSERT INTO public.progress_partitions VALUES
	('tidemark', 'stream.events', 0, 0, 25759, 25759, '2026-03-01 12:06:40.22363+00', 'at_end'),
	('tidemark', 'stream.events', 1, 0, 68121, 68121, '2026-03-01 12:05:54.938639+00', 'at_end');
INSERT INTO public.stream_metrics_day VALUES
	('2026-03-01 00:00:00+00', '2026-03-02 00:00:00+00', 'stream_0001', 5, 12, 5618365, 58, 12, 8, 588.02, 7, 8, 1),
	('2026-03-01 00:00:00+00', '2026-03-02 00:00:00+00', 'stream_0003', 3, 12, 2899419, 16, 7, 4, 302.50, 3, 5, 1),
	('2026-03-01 00:00:00+00', '2026-03-02 00:00:00+00', 'stream_0002', 6, 12, 6306426, 31, 7, 2, 22.00, 2, 8, 1);
INSERT INTO public.stream_metrics_hour VALUES
	('2026-03-01 11:00:00+00', '2026-03-01 12:00:00+00', 'stream_0001', 4, 12, 4304219, 44, 12, 6, 572.17, 5, 8, 1),
	('2026-03-01 11:00:00+00', '2026-03-01 12:00:00+00', 'stream_0003', 3, 12, 2103822, 15, 7, 4, 302.50, 3, 5, 1),
	('2026-03-01 11:00:00+00', '2026-03-01 12:00:00+00', 'stream_0002', 7, 12, 4347183, 21, 7, 2, 22.00, 2, 8, 1),
	('2026-03-01 12:00:00+00', '2026-03-01 13:00:00+00', 'stream_0001', 5, 10, 1314146, 14, 5, 2, 15.85, 2, 6, 1),
	('2026-03-01 12:00:00+00', '2026-03-01 13:00:00+00', 'stream_0003', 3, 5, 795597, 1, 1, 0, 0.00, 0, 4, 1),
	('2026-03-01 12:00:00+00', '2026-03-01 13:00:00+00', 'stream_0002', 6, 9, 1959243, 10, 3, 0, 0.00, 0, 7, 1);
INSERT INTO public.stream_metrics_minute VALUES
	('2026-03-01 11:45:00+00', '2026-03-01 11:46:00+00', 'stream_0001', 1, 1, 13722, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:45:00+00', '2026-03-01 11:46:00+00', 'stream_0003', 1, 1, 25609, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 11:45:00+00', '2026-03-01 11:46:00+00', 'stream_0002', 0, 0, 0, 0, 0, 1, 2.00, 1, 1),
	('2026-03-01 11:46:00+00', '2026-03-01 11:47:00+00', 'stream_0001', 5, 5, 28421, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 11:46:00+00', '2026-03-01 11:47:00+00', 'stream_0003', 1, 1, 60000, 1, 1, 1, 10.00, 1, 1),
	('2026-03-01 11:46:00+00', '2026-03-01 11:47:00+00', 'stream_0002', 2, 2, 2262, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 11:47:00+00', '2026-03-01 11:48:00+00', 'stream_0001', 4, 6, 274646, 1, 1, 1, 20.00, 1, 1),
	('2026-03-01 11:47:00+00', '2026-03-01 11:48:00+00', 'stream_0002', 3, 3, 176469, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:48:00+00', '2026-03-01 11:49:00+00', 'stream_0001', 8, 8, 285896, 3, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:48:00+00', '2026-03-01 11:49:00+00', 'stream_0003', 2, 2, 85531, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 11:48:00+00', '2026-03-01 11:49:00+00', 'stream_0002', 2, 4, 98147, 2, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:49:00+00', '2026-03-01 11:50:00+00', 'stream_0001', 6, 8, 410325, 2, 2, 1, 498.23, 1, 1),
	('2026-03-01 11:49:00+00', '2026-03-01 11:50:00+00', 'stream_0003', 2, 3, 85557, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 11:49:00+00', '2026-03-01 11:50:00+00', 'stream_0002', 3, 4, 140136, 3, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:50:00+00', '2026-03-01 11:51:00+00', 'stream_0001', 5, 7, 311977, 3, 2, 1, 18.41, 1, 1),
	('2026-03-01 11:50:00+00', '2026-03-01 11:51:00+00', 'stream_0003', 3, 4, 155131, 0, 0, 1, 285.50, 1, 1),
	('2026-03-01 11:50:00+00', '2026-03-01 11:51:00+00', 'stream_0002', 5, 5, 218104, 2, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:51:00+00', '2026-03-01 11:52:00+00', 'stream_0001', 3, 6, 179467, 7, 2, 0, 0.00, 0, 1),
	('2026-03-01 11:51:00+00', '2026-03-01 11:52:00+00', 'stream_0003', 4, 5, 157417, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:51:00+00', '2026-03-01 11:52:00+00', 'stream_0002', 6, 7, 353839, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:52:00+00', '2026-03-01 11:53:00+00', 'stream_0001', 4, 5, 244698, 5, 4, 0, 0.00, 0, 1),
	('2026-03-01 11:52:00+00', '2026-03-01 11:53:00+00', 'stream_0003', 4, 5, 237172, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 11:52:00+00', '2026-03-01 11:53:00+00', 'stream_0002', 5, 6, 324411, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 11:53:00+00', '2026-03-01 11:54:00+00', 'stream_0001', 6, 7, 356224, 2, 2, 1, 5.00, 1, 1),
	('2026-03-01 11:53:00+00', '2026-03-01 11:54:00+00', 'stream_0003', 5, 5, 270347, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 11:53:00+00', '2026-03-01 11:54:00+00', 'stream_0002', 7, 7, 399312, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:54:00+00', '2026-03-01 11:55:00+00', 'stream_0001', 5, 8, 334516, 3, 3, 0, 0.00, 0, 1),
	('2026-03-01 11:54:00+00', '2026-03-01 11:55:00+00', 'stream_0003', 5, 6, 278261, 0, 0, 1, 2.00, 1, 1),
	('2026-03-01 11:54:00+00', '2026-03-01 11:55:00+00', 'stream_0002', 7, 7, 405815, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:55:00+00', '2026-03-01 11:56:00+00', 'stream_0001', 7, 8, 367988, 4, 3, 1, 5.00, 1, 1),
	('2026-03-01 11:55:00+00', '2026-03-01 11:56:00+00', 'stream_0003', 3, 5, 276955, 2, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:55:00+00', '2026-03-01 11:56:00+00', 'stream_0002', 8, 9, 423210, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:56:00+00', '2026-03-01 11:57:00+00', 'stream_0001', 8, 10, 421653, 4, 2, 0, 0.00, 0, 1),
	('2026-03-01 11:56:00+00', '2026-03-01 11:57:00+00', 'stream_0003', 2, 3, 159296, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:56:00+00', '2026-03-01 11:57:00+00', 'stream_0002', 7, 8, 415093, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 11:57:00+00', '2026-03-01 11:58:00+00', 'stream_0001', 5, 9, 411146, 4, 3, 0, 0.00, 0, 1),
	('2026-03-01 11:57:00+00', '2026-03-01 11:58:00+00', 'stream_0003', 1, 2, 64625, 3, 2, 0, 0.00, 0, 1),
	('2026-03-01 11:57:00+00', '2026-03-01 11:58:00+00', 'stream_0002', 8, 8, 467440, 3, 3, 0, 0.00, 0, 1),
	('2026-03-01 11:58:00+00', '2026-03-01 11:59:00+00', 'stream_0001', 6, 7, 363377, 2, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:58:00+00', '2026-03-01 11:59:00+00', 'stream_0003', 1, 2, 56175, 2, 1, 0, 0.00, 0, 1),
	('2026-03-01 11:58:00+00', '2026-03-01 11:59:00+00', 'stream_0002', 8, 9, 461405, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 11:59:00+00', '2026-03-01 12:00:00+00', 'stream_0001', 4, 7, 300163, 1, 1, 1, 25.53, 1, 1),
	('2026-03-01 11:59:00+00', '2026-03-01 12:00:00+00', 'stream_0003', 3, 3, 131746, 3, 2, 1, 5.00, 1, 1),
	('2026-03-01 11:59:00+00', '2026-03-01 12:00:00+00', 'stream_0002', 7, 8, 461540, 2, 2, 1, 20.00, 1, 1),
	('2026-03-01 12:00:00+00', '2026-03-01 12:01:00+00', 'stream_0001', 6, 7, 271148, 2, 1, 1, 5.85, 1, 1),
	('2026-03-01 12:00:00+00', '2026-03-01 12:01:00+00', 'stream_0003', 1, 3, 110518, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:00:00+00', '2026-03-01 12:01:00+00', 'stream_0002', 7, 7, 420000, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:01:00+00', '2026-03-01 12:02:00+00', 'stream_0001', 3, 6, 261916, 5, 2, 0, 0.00, 0, 1),
	('2026-03-01 12:01:00+00', '2026-03-01 12:02:00+00', 'stream_0003', 1, 2, 95567, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:01:00+00', '2026-03-01 12:02:00+00', 'stream_0002', 7, 8, 442049, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 12:02:00+00', '2026-03-01 12:03:00+00', 'stream_0001', 4, 6, 203049, 3, 3, 0, 0.00, 0, 1),
	('2026-03-01 12:02:00+00', '2026-03-01 12:03:00+00', 'stream_0003', 3, 4, 166950, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:02:00+00', '2026-03-01 12:03:00+00', 'stream_0002', 7, 8, 457962, 2, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:03:00+00', '2026-03-01 12:04:00+00', 'stream_0001', 6, 8, 277886, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 12:03:00+00', '2026-03-01 12:04:00+00', 'stream_0003', 4, 4, 224273, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:03:00+00', '2026-03-01 12:04:00+00', 'stream_0002', 5, 7, 282413, 3, 2, 0, 0.00, 0, 1),
	('2026-03-01 12:04:00+00', '2026-03-01 12:05:00+00', 'stream_0001', 5, 7, 300147, 2, 1, 1, 10.00, 1, 1),
	('2026-03-01 12:04:00+00', '2026-03-01 12:05:00+00', 'stream_0003', 3, 4, 198289, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:04:00+00', '2026-03-01 12:05:00+00', 'stream_0002', 6, 6, 356819, 2, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:05:00+00', '2026-03-01 12:06:00+00', 'stream_0001', 5, 6, 309508, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:05:00+00', '2026-03-01 12:06:00+00', 'stream_0003', 2, 3, 167642, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:05:00+00', '2026-03-01 12:06:00+00', 'stream_0002', 5, 7, 319947, 0, 0, 1, 10.00, 1, 1),
	('2026-03-01 12:06:00+00', '2026-03-01 12:07:00+00', 'stream_0001', 6, 7, 332572, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:06:00+00', '2026-03-01 12:07:00+00', 'stream_0003', 4, 4, 185429, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:06:00+00', '2026-03-01 12:07:00+00', 'stream_0002', 6, 8, 287769, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:07:00+00', '2026-03-01 12:08:00+00', 'stream_0001', 7, 8, 436376, 4, 3, 0, 0.00, 0, 1),
	('2026-03-01 12:07:00+00', '2026-03-01 12:08:00+00', 'stream_0003', 5, 5, 257605, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:08:00+00', '2026-03-01 12:09:00+00', 'stream_0001', 5, 9, 334265, 2, 2, 2, 58.71, 1, 1),
	('2026-03-01 12:08:00+00', '2026-03-01 12:09:00+00', 'stream_0003', 5, 5, 300000, 0, 0, 1, 39.12, 1, 1),
	('2026-03-01 12:08:00+00', '2026-03-01 12:09:00+00', 'stream_0002', 5, 6, 320625, 1, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:09:00+00', '2026-03-01 12:10:00+00', 'stream_0001', 6, 8, 323272, 5, 3, 1, 50.00, 1, 1),
	('2026-03-01 12:09:00+00', '2026-03-01 12:10:00+00', 'stream_0003', 5, 6, 251939, 0, 0, 1, 1.00, 1, 1),
	('2026-03-01 12:09:00+00', '2026-03-01 12:10:00+00', 'stream_0002', 4, 5, 271962, 2, 2, 1, 3.00, 1, 1),
	('2026-03-01 12:10:00+00', '2026-03-01 12:11:00+00', 'stream_0001', 8, 8, 423618, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 12:10:00+00', '2026-03-01 12:11:00+00', 'stream_0003', 6, 6, 334208, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:10:00+00', '2026-03-01 12:11:00+00', 'stream_0002', 5, 6, 319435, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 12:11:00+00', '2026-03-01 12:12:00+00', 'stream_0001', 8, 9, 499599, 4, 3, 1, 1.00, 1, 1),
	('2026-03-01 12:11:00+00', '2026-03-01 12:12:00+00', 'stream_0003', 7, 7, 415638, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:11:00+00', '2026-03-01 12:12:00+00', 'stream_0002', 6, 8, 374472, 3, 2, 1, 3.00, 1, 1),
	('2026-03-01 12:12:00+00', '2026-03-01 12:13:00+00', 'stream_0001', 7, 10, 460694, 2, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:12:00+00', '2026-03-01 12:13:00+00', 'stream_0003', 6, 7, 405618, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:12:00+00', '2026-03-01 12:13:00+00', 'stream_0002', 6, 6, 360000, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:13:00+00', '2026-03-01 12:14:00+00', 'stream_0001', 2, 7, 354631, 1, 1, 2, 20.00, 2, 1),
	('2026-03-01 12:13:00+00', '2026-03-01 12:14:00+00', 'stream_0002', 5, 7, 345909, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 12:14:00+00', '2026-03-01 12:15:00+00', 'stream_0001', 3, 5, 191552, 4, 3, 1, 295.23, 1, 1),
	('2026-03-01 12:14:00+00', '2026-03-01 12:15:00+00', 'stream_0003', 7, 7, 373582, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:14:00+00', '2026-03-01 12:15:00+00', 'stream_0002', 6, 7, 330383, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:15:00+00', '2026-03-01 12:16:00+00', 'stream_0001', 5, 5, 245581, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 12:15:00+00', '2026-03-01 12:16:00+00', 'stream_0003', 8, 8, 433453, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:15:00+00', '2026-03-01 12:16:00+00', 'stream_0002', 5, 6, 359132, 0, 0, 0, 0.00, 0, 1),
	('2026-03-01 12:16:00+00', '2026-03-01 12:17:00+00', 'stream_0002', 5, 5, 300000, 0, 0, 1, 471.35, 1, 1);
INSERT INTO public.stream_state VALUES
	('stream_0002', 5, '2026-03-01 12:16:00+00', '2026-12-01 00:29:54.302005+00', 1),
	('stream_0003', 8, '2026-03-01 12:15:00+00', '2026-12-01 00:29:54.302005+00', 1),
	('stream_0001', 5, '2026-03-01 12:15:00+00', '2026-12-01 00:29:54.302005+00', 1);
INSERT INTO public.stream_totals_day VALUES
	('2026-03-01 00:00:00+00', '2026-03-02 00:00:00+00', 3, 14, 36, 14824210, 105, 26, 14, 912.52, 12, 18, 1);
INSERT INTO public.stream_totals_hour VALUES
	('2026-03-01 11:00:00+00', '2026-03-01 12:00:00+00', 3, 14, 36, 10755224, 80, 26, 12, 896.67, 10, 18, 1),
	('2026-03-01 12:00:00+00', '2026-03-01 13:00:00+00', 3, 14, 24, 4068986, 25, 9, 2, 15.85, 2, 15, 1);
INSERT INTO public.stream_totals_minute VALUES
	('2026-03-01 11:45:00+00', '2026-03-01 11:46:00+00', 3, 2, 2, 39331, 1, 1, 1, 2.00, 1, 1),
	('2026-03-01 11:46:00+00', '2026-03-01 11:47:00+00', 3, 8, 8, 90683, 3, 3, 1, 10.00, 1, 1),
	('2026-03-01 11:47:00+00', '2026-03-01 11:48:00+00', 2, 8, 10, 511115, 2, 2, 1, 20.00, 1, 1),
	('2026-03-01 11:48:00+00', '2026-03-01 11:49:00+00', 3, 12, 14, 469574, 5, 2, 0, 0.00, 0, 1),
	('2026-03-01 11:49:00+00', '2026-03-01 11:50:00+00', 3, 11, 15, 636018, 5, 3, 1, 498.23, 1, 1),
	('2026-03-01 11:50:00+00', '2026-03-01 11:51:00+00', 3, 13, 16, 685212, 5, 3, 2, 303.91, 2, 1),
	('2026-03-01 11:51:00+00', '2026-03-01 11:52:00+00', 3, 13, 18, 690723, 9, 4, 0, 0.00, 0, 1),
	('2026-03-01 11:52:00+00', '2026-03-01 11:53:00+00', 3, 13, 16, 806281, 7, 6, 0, 0.00, 0, 1),
	('2026-03-01 11:53:00+00', '2026-03-01 11:54:00+00', 3, 18, 19, 1025883, 3, 3, 1, 5.00, 1, 1),
	('2026-03-01 11:54:00+00', '2026-03-01 11:55:00+00', 3, 17, 21, 1018592, 4, 4, 1, 2.00, 1, 1),
	('2026-03-01 11:55:00+00', '2026-03-01 11:56:00+00', 3, 18, 22, 1068153, 7, 5, 1, 5.00, 1, 1),
	('2026-03-01 11:56:00+00', '2026-03-01 11:57:00+00', 3, 17, 21, 996042, 7, 5, 0, 0.00, 0, 1),
	('2026-03-01 11:57:00+00', '2026-03-01 11:58:00+00', 3, 14, 19, 943211, 10, 8, 0, 0.00, 0, 1),
	('2026-03-01 11:58:00+00', '2026-03-01 11:59:00+00', 3, 15, 18, 880957, 6, 4, 0, 0.00, 0, 1),
	('2026-03-01 11:59:00+00', '2026-03-01 12:00:00+00', 3, 14, 18, 893449, 6, 5, 3, 50.53, 3, 1),
	('2026-03-01 12:00:00+00', '2026-03-01 12:01:00+00', 3, 14, 17, 801666, 4, 3, 1, 5.85, 1, 1),
	('2026-03-01 12:01:00+00', '2026-03-01 12:02:00+00', 3, 11, 16, 799532, 7, 4, 0, 0.00, 0, 1),
	('2026-03-01 12:02:00+00', '2026-03-01 12:03:00+00', 3, 14, 18, 827961, 5, 4, 0, 0.00, 0, 1),
	('2026-03-01 12:03:00+00', '2026-03-01 12:04:00+00', 3, 15, 19, 784572, 5, 4, 0, 0.00, 0, 1),
	('2026-03-01 12:04:00+00', '2026-03-01 12:05:00+00', 3, 14, 17, 855255, 4, 2, 1, 10.00, 1, 1),
	('2026-03-01 12:05:00+00', '2026-03-01 12:06:00+00', 3, 12, 16, 797097, 1, 1, 1, 10.00, 1, 1),
	('2026-03-01 12:06:00+00', '2026-03-01 12:07:00+00', 3, 16, 19, 805770, 3, 3, 0, 0.00, 0, 1),
	('2026-03-01 12:07:00+00', '2026-03-01 12:08:00+00', 2, 18, 19, 1053981, 5, 4, 0, 0.00, 0, 1),
	('2026-03-01 12:08:00+00', '2026-03-01 12:09:00+00', 3, 15, 20, 954890, 3, 3, 3, 97.83, 2, 1),
	('2026-03-01 12:09:00+00', '2026-03-01 12:10:00+00', 3, 15, 19, 847173, 7, 5, 3, 54.00, 3, 1),
	('2026-03-01 12:10:00+00', '2026-03-01 12:11:00+00', 3, 19, 20, 1077261, 4, 4, 0, 0.00, 0, 1),
	('2026-03-01 12:11:00+00', '2026-03-01 12:12:00+00', 3, 21, 24, 1289709, 7, 5, 2, 4.00, 2, 1),
	('2026-03-01 12:12:00+00', '2026-03-01 12:13:00+00', 3, 19, 23, 1226312, 2, 1, 0, 0.00, 0, 1),
	('2026-03-01 12:13:00+00', '2026-03-01 12:14:00+00', 2, 13, 20, 1060540, 3, 3, 2, 20.00, 2, 1),
	('2026-03-01 12:14:00+00', '2026-03-01 12:15:00+00', 3, 16, 19, 895517, 4, 3, 1, 295.23, 1, 1),
	('2026-03-01 12:15:00+00', '2026-03-01 12:16:00+00', 3, 18, 19, 1038166, 2, 2, 0, 0.00, 0, 1),
	('2026-03-01 12:16:00+00', '2026-03-01 12:17:00+00', 1, 18, 18, 1080000, 0, 0, 1, 471.35, 1, 1);
ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (topic, partition, "offset");
ALTER TABLE ONLY public.progress_history
    ADD CONSTRAINT progress_history_pkey PRIMARY KEY (pipeline, watermark);
ALTER TABLE ONLY public.progress_partitions
    ADD CONSTRAINT progress_partitions_pkey PRIMARY KEY (pipeline, topic, partition);
ALTER TABLE ONLY public.progress
    ADD CONSTRAINT progress_pkey PRIMARY KEY (pipeline);
ALTER TABLE ONLY public.stream_metrics_day
    ADD CONSTRAINT stream_metrics_day_pkey PRIMARY KEY (window_start, stream_id);
ALTER TABLE ONLY public.stream_metrics_hour
    ADD CONSTRAINT stream_metrics_hour_pkey PRIMARY KEY (window_start, stream_id);
ALTER TABLE ONLY public.stream_metrics_minute
    ADD CONSTRAINT stream_metrics_minute_pkey PRIMARY KEY (window_start, stream_id);
ALTER TABLE ONLY public.stream_state
    ADD CONSTRAINT stream_state_pkey PRIMARY KEY (stream_id);
ALTER TABLE ONLY public.stream_totals_day
    ADD CONSTRAINT stream_totals_day_pkey PRIMARY KEY (window_start);
ALTER TABLE ONLY public.stream_totals_hour
    ADD CONSTRAINT stream_totals_hour_pkey PRIMARY KEY (window_start);
ALTER TABLE ONLY public.stream_totals_minute
    ADD CONSTRAINT stream_totals_minute_pkey PRIMARY KEY (window_start);
CREATE INDEX stream_metrics_day_by_stream ON public.stream_metrics_day USING btree (stream_id, window_start DESC);
CREATE INDEX stream_metrics_hour_by_stream ON public.stream_metrics_hour USING btree (stream_id, window_start DESC);
CREATE INDEX stream_metrics_minute_by_stream ON public.stream_metrics_minute USING btree (stream_id, window_start DESC);
