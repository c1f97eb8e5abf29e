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
    trouble text
)
WITH (fillfactor='50');
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
CREATE TABLE public.stream_metrics_minute (
    window_start timestamp with time zone NOT NULL,
    window_end timestamp with time zone NOT NULL,
    stream_id text NOT NULL COLLATE pg_catalog."C",
    active_viewers bigint NOT NULL,
    chat_messages bigint NOT NULL,
    donations_usd numeric(20,2) NOT NULL,
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
INSERT INTO public.dead_letters VALUES ('stream.events', 0, 4333, 'late', 'the window 2026-03-01T11:18:00Z ended 33m 29s before the partition''s watermark, 2026-03-01T11:52:29.969320Z', NULL, '\x7b226576656e745f6964223a226563616431313935396430376462613530303030303030303030303030303464222c226576656e745f74797065223a227669657765725f6c65617665222c2273747265616d5f6964223a2273747265616d5f30303032222c22757365725f6964223a22757365725f3030303132222c227473223a22323032362d30332d30315431313a31383a35352e3039383633365a227d', '2026-03-01 12:02:51.428+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 0, 5548, 'not_object', 'the payload is an array, not an object', NULL, '\x5b7b226576656e745f6964223a226d616c666f726d65642d62376330666261616361343132656132222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a2273747265616d5f30303032222c227473223a22323032362d30332d30315431323a30333a35372e3835373134325a227d5d', '2026-03-01 12:03:57.857+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 0, 14375, 'late', 'the window 2026-03-01T11:22:00Z ended 37m 2s before the partition''s watermark, 2026-03-01T12:00:02.078059Z', NULL, '\x7b226576656e745f6964223a226563616431313935396430376462613530303030303030303030303030313134222c226576656e745f74797065223a22646f6e6174696f6e222c2273747265616d5f6964223a2273747265616d5f30303032222c22757365725f6964223a22757365725f3030303031222c227473223a22323032362d30332d30315431313a32323a34312e3639343738335a222c22616d6f756e745f757364223a32302e307d', '2026-03-01 12:10:15+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 0, 18382, 'late', 'the window 2026-03-01T11:52:00Z ended 10m 9s before the partition''s watermark, 2026-03-01T12:03:09.722039Z', NULL, '\x7b226576656e745f6964223a226563616431313935396430376462613530303030303030303030303030313633222c226576656e745f74797065223a227669657765725f6a6f696e222c2273747265616d5f6964223a2273747265616d5f30303032222c22757365725f6964223a22757365725f3030303038222c227473223a22323032362d30332d30315431313a35323a31372e3834323134385a227d', '2026-03-01 12:13:12.857+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 1, 2905, 'late', 'the window 2026-03-01T10:50:00Z ended 1h 0m 9s before the partition''s watermark, 2026-03-01T11:51:09.754777Z', NULL, '\x7b226576656e745f6964223a226563616431313935396430376462613530303030303030303030303030303230222c226576656e745f74797065223a227669657765725f6a6f696e222c2273747265616d5f6964223a2273747265616d5f30303031222c22757365725f6964223a22757365725f3030303032222c227473223a22323032362d30332d30315431303a35303a31392e3834373334365a227d', '2026-03-01 12:01:12.857+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 1, 9008, 'late', 'the window 2026-03-01T11:33:00Z ended 19m 18s before the partition''s watermark, 2026-03-01T11:53:18.506681Z', NULL, '\x7b226576656e745f6964223a226563616431313935396430376462613530303030303030303030303030303562222c226576656e745f74797065223a227669657765725f6c65617665222c2273747265616d5f6964223a2273747265616d5f30303031222c22757365725f6964223a22757365725f3030303037222c227473223a22323032362d30332d30315431313a33333a32322e3838323930325a227d', '2026-03-01 12:03:21.428+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 1, 14605, 'missing_field', 'ts is absent, but required', NULL, '\x7b226576656e745f6964223a226d616c666f726d65642d39666234653632303830303030326333222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a2273747265616d5f30303031227d', '2026-03-01 12:05:23.571+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 1, 16974, 'late', 'the window 2026-03-01T11:33:00Z ended 22m 23s before the partition''s watermark, 2026-03-01T11:56:23.729331Z', NULL, '\x7b226576656e745f6964223a226563616431313935396430376462613530303030303030303030303030306232222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a2273747265616d5f30303031222c22757365725f6964223a22757365725f3030303333222c227473223a22323032362d30332d30315431313a33333a32312e3731333935375a227d', '2026-03-01 12:06:34.285+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 1, 21516, 'late', 'the window 2026-03-01T11:21:00Z ended 36m 37s before the partition''s watermark, 2026-03-01T11:58:37.739592Z', NULL, '\x7b226576656e745f6964223a226563616431313935396430376462613530303030303030303030303030306539222c226576656e745f74797065223a227669657765725f6a6f696e222c2273747265616d5f6964223a2273747265616d5f30303031222c22757365725f6964223a22757365725f3030303337222c227473223a22323032362d30332d30315431313a32313a31392e3836333836315a227d', '2026-03-01 12:08:42.857+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 1, 29347, 'late', 'the window 2026-03-01T11:22:00Z ended 38m 31s before the partition''s watermark, 2026-03-01T12:01:31.531956Z', NULL, '\x7b226576656e745f6964223a226563616431313935396430376462613530303030303030303030303030313336222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a2273747265616d5f30303031222c22757365725f6964223a22757365725f3030303131222c227473223a22323032362d30332d30315431313a32323a35382e3838383330345a227d', '2026-03-01 12:11:34.285+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 1, 33550, 'bad_amount', 'amount_usd is "12,50"; allowed is a JSON number from 0 to 1000000000.00', NULL, '\x7b226576656e745f6964223a226d616c666f726d65642d32353935613531613030376265356137222c226576656e745f74797065223a22646f6e6174696f6e222c2273747265616d5f6964223a2273747265616d5f30303031222c227473223a22323032362d30332d30315431323a31333a31355a222c22616d6f756e745f757364223a2231322c3530227d', '2026-03-01 12:13:15+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 1, 34053, 'late', 'the window 2026-03-01T11:43:00Z ended 19m 19s before the partition''s watermark, 2026-03-01T12:03:19.236363Z', NULL, '\x7b226576656e745f6964223a226563616431313935396430376462613530303030303030303030303030313637222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a2273747265616d5f30303031222c22757365725f6964223a22757365725f3030303338222c227473223a22323032362d30332d30315431313a34333a33322e3533373136385a227d', '2026-03-01 12:13:23.571+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 3, 3289, 'wrong_type', 'stream_id is a number; allowed is a string', NULL, '\x7b226576656e745f6964223a226d616c666f726d65642d66303938366439353665643933306165222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a372c227473223a22323032362d30332d30315431323a30343a30362e3432383537315a227d', '2026-03-01 12:04:06.428+00', 1, NULL);
INSERT INTO public.dead_letters VALUES ('stream.events', 3, 10419, 'invalid_json', 'at byte 98: a string without an end', NULL, '\x7b226576656e745f6964223a226d616c666f726d65642d38336134646235326232666462373134222c226576656e745f74797065223a22636861745f6d657373616765222c2273747265616d5f6964223a2273747265616d5f30303033222c227573', '2026-03-01 12:11:25.714+00', 1, NULL);
INSERT INTO public.progress VALUES ('tidemark', 3, '2026-03-01 12:04:52.692197+00', 1, 'file:stream.events#661758d8f67a6-4a77 window=60s lateness=600000000us future_skew=300000000us viewer_timeout=43200000000us rules=1', '\xf6b73ec733d4598a6e2b96b1aa9c9def', '[{"id": {"fence": 1, "number": 2, "pipeline": 1697947666}, "open": [29539444, 29539445, 29539446, 29539447, 29539448, 29539449, 29539450, 29539451, 29539452, 29539453, 29539454], "parts": [{"bytes": 6336, "checksum": 1072034566}, {"bytes": 6136, "checksum": 2260687539}], "version": 4, "taken_at": 1796007387253944, "watermark": 1772366692692197, "increments": [{"id": {"fence": 1, "number": 2, "pipeline": 1697947666}, "parts": [{"bytes": 5024, "checksum": 3404481526}, {"bytes": 4736, "checksum": 2978638269}], "newest": 29539454}], "partitions": {"0": {"highest": 1772367292692197000, "next_offset": 20986}, "1": {"highest": 1772367295950536000, "next_offset": 38424}, "2": {"highest": null, "next_offset": 0}, "3": {"highest": 1772367294076779000, "next_offset": 13484}}}, {"id": {"fence": 1, "number": 1, "pipeline": 1697947666}, "open": [29539444, 29539445, 29539446, 29539447, 29539448, 29539449, 29539450, 29539451, 29539452, 29539453, 29539454], "parts": [{"bytes": 6336, "checksum": 3049744546}, {"bytes": 6136, "checksum": 282576353}], "version": 4, "taken_at": 1796007382755391, "watermark": 1772366692692197, "increments": [{"id": {"fence": 1, "number": 1, "pipeline": 1697947666}, "parts": [{"bytes": 5024, "checksum": 987640251}, {"bytes": 4736, "checksum": 83616646}], "newest": 29539454}], "partitions": {"0": {"highest": 1772367292692197000, "next_offset": 20986}, "1": {"highest": 1772367295950536000, "next_offset": 38424}, "2": {"highest": null, "next_offset": 0}, "3": {"highest": 1772367294076779000, "next_offset": 13484}}}]', '2026-11-30 02:56:27.268457+00', '8c0e5eb048301080e21beb17eec19c9d', '2026-11-30 02:56:27.269574+00', NULL);
INSERT INTO public.progress_partitions VALUES ('tidemark', 'stream.events', 2, 0, 0, 0, NULL, 'not_counting');
INSERT INTO public.progress_partitions VALUES ('tidemark', 'stream.events', 0, 0, 20986, 20986, '2026-03-01 12:04:52.692197+00', 'at_end');
INSERT INTO public.progress_partitions VALUES ('tidemark', 'stream.events', 1, 0, 38424, 38424, '2026-03-01 12:04:55.950536+00', 'at_end');
INSERT INTO public.progress_partitions VALUES ('tidemark', 'stream.events', 3, 0, 13484, 13484, '2026-03-01 12:04:54.076779+00', 'at_end');
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 11:59:00+00', '2026-03-01 12:00:00+00', 'stream_0001', 0, 0, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:00:00+00', '2026-03-01 12:01:00+00', 'stream_0003', 2, 3, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:00:00+00', '2026-03-01 12:01:00+00', 'stream_0002', 3, 2, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:00:00+00', '2026-03-01 12:01:00+00', 'stream_0001', 3, 3, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:01:00+00', '2026-03-01 12:02:00+00', 'stream_0003', 2, 0, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:01:00+00', '2026-03-01 12:02:00+00', 'stream_0002', 6, 3, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:01:00+00', '2026-03-01 12:02:00+00', 'stream_0001', 4, 5, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:02:00+00', '2026-03-01 12:03:00+00', 'stream_0003', 4, 3, 10.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:02:00+00', '2026-03-01 12:03:00+00', 'stream_0002', 5, 2, 323.62, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:02:00+00', '2026-03-01 12:03:00+00', 'stream_0001', 7, 2, 5.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:03:00+00', '2026-03-01 12:04:00+00', 'stream_0003', 5, 0, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:03:00+00', '2026-03-01 12:04:00+00', 'stream_0002', 7, 1, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:03:00+00', '2026-03-01 12:04:00+00', 'stream_0001', 8, 3, 390.76, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:04:00+00', '2026-03-01 12:05:00+00', 'stream_0003', 5, 0, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:04:00+00', '2026-03-01 12:05:00+00', 'stream_0002', 7, 1, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:04:00+00', '2026-03-01 12:05:00+00', 'stream_0001', 9, 4, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:05:00+00', '2026-03-01 12:06:00+00', 'stream_0003', 3, 0, 1.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:05:00+00', '2026-03-01 12:06:00+00', 'stream_0002', 7, 2, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:05:00+00', '2026-03-01 12:06:00+00', 'stream_0001', 10, 6, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:06:00+00', '2026-03-01 12:07:00+00', 'stream_0003', 4, 1, 2.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:06:00+00', '2026-03-01 12:07:00+00', 'stream_0002', 7, 0, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:06:00+00', '2026-03-01 12:07:00+00', 'stream_0001', 9, 4, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:07:00+00', '2026-03-01 12:08:00+00', 'stream_0003', 4, 1, 50.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:07:00+00', '2026-03-01 12:08:00+00', 'stream_0002', 7, 1, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:07:00+00', '2026-03-01 12:08:00+00', 'stream_0001', 13, 4, 50.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:08:00+00', '2026-03-01 12:09:00+00', 'stream_0003', 3, 1, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:08:00+00', '2026-03-01 12:09:00+00', 'stream_0002', 9, 3, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:08:00+00', '2026-03-01 12:09:00+00', 'stream_0001', 13, 5, 5.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:09:00+00', '2026-03-01 12:10:00+00', 'stream_0003', 5, 1, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:09:00+00', '2026-03-01 12:10:00+00', 'stream_0002', 7, 2, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:09:00+00', '2026-03-01 12:10:00+00', 'stream_0001', 15, 10, 50.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:10:00+00', '2026-03-01 12:11:00+00', 'stream_0003', 5, 1, 3.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:10:00+00', '2026-03-01 12:11:00+00', 'stream_0002', 7, 3, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:10:00+00', '2026-03-01 12:11:00+00', 'stream_0001', 15, 5, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:11:00+00', '2026-03-01 12:12:00+00', 'stream_0003', 6, 0, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:11:00+00', '2026-03-01 12:12:00+00', 'stream_0002', 8, 2, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:11:00+00', '2026-03-01 12:12:00+00', 'stream_0001', 13, 2, 10.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:12:00+00', '2026-03-01 12:13:00+00', 'stream_0003', 10, 2, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:12:00+00', '2026-03-01 12:13:00+00', 'stream_0002', 6, 1, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:12:00+00', '2026-03-01 12:13:00+00', 'stream_0001', 17, 2, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:13:00+00', '2026-03-01 12:14:00+00', 'stream_0003', 6, 2, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:13:00+00', '2026-03-01 12:14:00+00', 'stream_0002', 8, 2, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:13:00+00', '2026-03-01 12:14:00+00', 'stream_0001', 20, 4, 146.34, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:14:00+00', '2026-03-01 12:15:00+00', 'stream_0003', 6, 0, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:14:00+00', '2026-03-01 12:15:00+00', 'stream_0002', 8, 4, 0.00, 1);
INSERT INTO public.stream_metrics_minute VALUES ('2026-03-01 12:14:00+00', '2026-03-01 12:15:00+00', 'stream_0001', 20, 3, 0.00, 1);
INSERT INTO public.stream_state VALUES ('stream_0001', 20, '2026-03-01 12:14:00+00', '2026-11-30 02:56:21.85724+00', 1);
INSERT INTO public.stream_state VALUES ('stream_0002', 8, '2026-03-01 12:14:00+00', '2026-11-30 02:56:21.85724+00', 1);
INSERT INTO public.stream_state VALUES ('stream_0003', 6, '2026-03-01 12:14:00+00', '2026-11-30 02:56:21.85724+00', 1);
ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (topic, partition, "offset");
ALTER TABLE ONLY public.progress_partitions
    ADD CONSTRAINT progress_partitions_pkey PRIMARY KEY (pipeline, topic, partition);
ALTER TABLE ONLY public.progress
    ADD CONSTRAINT progress_pkey PRIMARY KEY (pipeline);
ALTER TABLE ONLY public.stream_metrics_minute
    ADD CONSTRAINT stream_metrics_minute_pkey PRIMARY KEY (window_start, stream_id);
ALTER TABLE ONLY public.stream_state
    ADD CONSTRAINT stream_state_pkey PRIMARY KEY (stream_id);
CREATE INDEX stream_metrics_minute_by_stream ON public.stream_metrics_minute USING btree (stream_id, window_start DESC);
