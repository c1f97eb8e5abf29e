-- Turns the plain table stream_metrics_minute of an earlier version into one with a partition a day, in one transaction and without
-- copying a row. tidemark-dataflow does this at its start if its role owns the table; otherwise let the owner run it, with the dataflow
-- stopped:
--
--   psql --single-transaction -v ON_ERROR_STOP=1 -f sql/migrate/partition_minutes.sql DATABASE_URL
--
-- The old table becomes the partition stream_metrics_minute_before, of all days up to that of its newest row and of the watermark. Columns,
-- constraints, indexes, views, triggers, publications, grants, comments and the owner are carried over. If something cannot be, it says
-- what, and changes nothing.
--
-- Postgres reads the old table once, to see that its rows lie before the first new day (a second for ten million rows in memory), and
-- nobody else can use the table meanwhile. On a very large one let its owner prove that beforehand, while all goes on. All rows of the next
-- days must begin before the DAY; it is where the old partition will end:
--
--   alter table stream_metrics_minute add constraint stream_metrics_minute_until
--       check (window_start < timestamptz 'DAY 00:00:00+00') not valid;
--   alter table stream_metrics_minute validate constraint stream_metrics_minute_until;
do $migrate$
declare
    plain regclass := to_regclass(format('%I.stream_metrics_minute', current_schema()));
    parent text := format('%I.stream_metrics_minute', current_schema());
    obstacles text;
    until timestamptz;
    commands text[] := '{}';
    command text;
begin
    if plain is null or (select relkind from pg_class where oid = plain) <> 'r' then
        return;
    end if;
    execute format('lock table %s in access exclusive mode', plain);

    select string_agg(obstacle, '; ') into obstacles from (
        select 'it is not an ordinary table that stands alone' as obstacle from pg_class
        where oid = plain and (relpersistence <> 'p' or relreplident <> 'd' or relrowsecurity or relhasrules
            or exists (select from pg_inherits where plain in (inhrelid, inhparent)))
        union all
        select 'foreign key ' || conname from pg_constraint where contype = 'f' and plain in (conrelid, confrelid)
        union all
        select 'column ' || attname || ' is an identity' from pg_attribute where attrelid = plain and attidentity <> ''
        union all
        select 'sequence ' || objid::regclass || ' belongs to it' from pg_depend
        where classid = 'pg_class'::regclass and refobjid = plain and refclassid = 'pg_class'::regclass and deptype = 'a'
            and (select relkind from pg_class where oid = objid) = 'S'
        union all
        select distinct 'materialized view or rule ' || ev_class::regclass from pg_depend join pg_rewrite on pg_rewrite.oid = objid
        where classid = 'pg_rewrite'::regclass and refobjid = plain and refclassid = 'pg_class'::regclass
            and (select relkind from pg_class where oid = ev_class) <> 'v'
        union all
        select distinct 'policy or function ' || pg_describe_object(classid, objid, 0) from pg_depend
        where classid in ('pg_proc'::regclass, 'pg_policy'::regclass) and refobjid = plain
        union all
        select distinct pg_describe_object(classid, objid, 0) || ' uses its type' from pg_depend join pg_class on pg_class.oid = plain
        where refclassid = 'pg_type'::regclass and deptype = 'n'
            and refobjid in (reltype, (select typarray from pg_type where pg_type.oid = reltype))
        union all
        select 'trigger ' || tgname || ' is not simply enabled' from pg_trigger
        where tgrelid = plain and not tgisinternal and tgenabled <> 'O'
        union all
        select 'publication ' || pubname || ' lacks publish_via_partition_root' from pg_publication_tables join pg_publication using (pubname)
        where (schemaname, tablename) = (current_schema(), 'stream_metrics_minute') and not pubviaroot
        union all
        select 'publication ' || pubname || ' has a list of columns or a condition'
        from pg_publication_rel as rel join pg_publication on pg_publication.oid = prpubid
        where prrelid = plain and (to_jsonb(rel) ->> 'prqual' is not null or to_jsonb(rel) ->> 'prattrs' is not null)
    ) as found;
    if obstacles is not null then
        raise exception 'stream_metrics_minute cannot be partitioned: %', obstacles;
    end if;

    -- What is to be done on the new table, while the texts still name the old one by its name.
    select array_agg(line order by place) into commands from (
        select 1 as place, format('alter table %s owner to %I', parent, rolname) as line
        from pg_class join pg_roles on pg_roles.oid = relowner where pg_class.oid = plain
        union all
        select 2, format('alter table %s add constraint %I %s', parent, conname, pg_get_constraintdef(oid))
        from pg_constraint where conrelid = plain and contype in ('p', 'u')
        union all
        select 3, format('create %s index %I on %s%s', case when indisunique then 'unique' end, relname, parent,
            substr(pg_get_indexdef(indexrelid), strpos(pg_get_indexdef(indexrelid), ' USING ')))
        from pg_index join pg_class on pg_class.oid = indexrelid
        where indrelid = plain and indisvalid and not exists (select from pg_constraint where conindid = indexrelid)
        union all
        select 4, format('comment on index %I.%I is %L', current_schema(), relname, obj_description(indexrelid, 'pg_class'))
        from pg_index join pg_class on pg_class.oid = indexrelid
        where indrelid = plain and obj_description(indexrelid, 'pg_class') is not null
        union all
        select 4, format('comment on table %s is %L', parent, obj_description(plain, 'pg_class'))
        where obj_description(plain, 'pg_class') is not null
        union all
        select 5, format('grant %s on %s to %s%s', privilege_type, parent,
            case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
            case when is_grantable then ' with grant option' end)
        from pg_class, aclexplode(relacl) where oid = plain and grantee <> relowner
        union all
        select 5, format('grant %s (%I) on %s to %s%s', privilege_type, attname, parent,
            case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
            case when is_grantable then ' with grant option' end)
        from pg_attribute, aclexplode(attacl) where attrelid = plain and not attisdropped
        union all
        select 6, format('drop trigger %I on %I.stream_metrics_minute_before', tgname, current_schema())
        from pg_trigger where tgrelid = plain and not tgisinternal
        union all
        select 7, pg_get_triggerdef(oid) from pg_trigger where tgrelid = plain and not tgisinternal
        union all
        select 9, format('create or replace view %s %s as %s', pg_class.oid::regclass,
            'with (' || array_to_string(reloptions, ', ') || ')', pg_get_viewdef(pg_class.oid))
        from pg_class where relkind = 'v' and oid in (
            select ev_class from pg_depend join pg_rewrite on pg_rewrite.oid = objid
            where classid = 'pg_rewrite'::regclass and refobjid = plain and refclassid = 'pg_class'::regclass)
        union all
        select 9, format('alter publication %I add table %s; alter publication %I drop table %I.stream_metrics_minute_before', pubname,
            parent, pubname, current_schema())
        from pg_publication_rel join pg_publication on pg_publication.oid = prpubid where prrelid = plain
    ) as lines;
    execute format('select date_trunc(''day'', greatest(max(window_start), (select max(watermark) from %I.progress), ''1970-01-01Z''), ''UTC'')
        + interval ''24 hours'' from %s', current_schema(), plain) into until;
    select greatest(until, max((regexp_match(pg_get_constraintdef(oid), 'window_start < ''([^'']+)'''))[1]::timestamptz)) into until
    from pg_constraint where conrelid = plain and conname = 'stream_metrics_minute_until' and convalidated;

    for command in select format('alter index %s rename to %I', indexrelid::regclass, left(relname, 56) || '_before')
        from pg_index join pg_class on pg_class.oid = indexrelid where indrelid = plain
    loop
        execute command;
    end loop;
    execute format('alter table %s rename to stream_metrics_minute_before', plain);
    execute format('create table %s (like %s including all excluding indexes excluding statistics) partition by range (window_start)',
        parent, plain);
    execute format('alter table %s drop constraint if exists stream_metrics_minute_until', parent);
    foreach command in array commands loop
        if command not like 'create or replace view%' and command not like 'alter publication%' then
            execute command;
        end if;
    end loop;
    execute format('alter table %s attach partition %s for values from (minvalue) to (%L)', parent, plain, until);
    execute format('create table %I.stream_metrics_minute_other partition of %s default with (fillfactor = 70)', current_schema(), parent);
    execute format('alter table %I.stream_metrics_minute_other owner to %s', current_schema(),
        (select relowner::regrole from pg_class where oid = plain));
    foreach command in array commands loop
        if command like 'create or replace view%' or command like 'alter publication%' then
            execute command;
        end if;
    end loop;
end
$migrate$;
