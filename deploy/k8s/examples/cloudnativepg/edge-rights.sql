-- What the edge may do, once the first migration has made the tables (docs/architecture/threats.md).
grant usage on schema public to transom_edge;
grant select, insert, update on webhook_edges, webhook_refusals to transom_edge;
