//! What the demo shows, and what it suggests.

/// Title and SQL of each query.
pub(crate) const QUERIES: &[(&str, &str)] = &[
    (
        "1. Revenue from suppliers and customers of the same nation in Asia (TPC-H query 5):",
        "SELECT n_name AS nation, sum(l_extendedprice * (1 - l_discount)) AS revenue, count(*) AS items
FROM customer
JOIN orders ON c_custkey = o_custkey
JOIN lineitem ON l_orderkey = o_orderkey
JOIN supplier ON l_suppkey = s_suppkey AND c_nationkey = s_nationkey
JOIN nation ON s_nationkey = n_nationkey
JOIN region ON n_regionkey = r_regionkey
WHERE r_name = 'ASIA' AND o_orderdate >= DATE '1994-01-01' AND o_orderdate < DATE '1995-01-01'
GROUP BY n_name
ORDER BY revenue DESC",
    ),
    (
        "2. The largest order of each market segment, by a window function:",
        "SELECT segment, customer, o_orderkey AS order_key, o_orderdate AS ordered, o_totalprice AS price
FROM (
  SELECT c_mktsegment AS segment, c_name AS customer, o_orderkey, o_orderdate, o_totalprice,
         row_number() OVER (PARTITION BY c_mktsegment ORDER BY o_totalprice DESC, o_orderkey) AS place
  FROM orders JOIN customer ON o_custkey = c_custkey
) AS ranked
WHERE place = 1
ORDER BY price DESC",
    ),
    (
        "3. Notes that mention the tide or the sea:",
        "SELECT id, place, title, body
FROM notes
WHERE body ILIKE '%tide%' OR body ILIKE '%the sea%'
ORDER BY id",
    ),
    (
        "4. The handwritten digits nearest to a drawing in numbers, a seven with a bar:",
        "SELECT string_agg(line, '  ' ORDER BY _rank) AS \"the four nearest\"
FROM vector_search('digits', 'image', '[
   0, 0, 8,16,16,16, 8, 0,
   0, 0, 6, 8, 8,15, 9, 0,
   0, 0, 0, 0, 4,16, 2, 0,
   0, 0, 4, 8,14,15, 4, 0,
   0, 0, 8,16,16,12, 4, 0,
   0, 0, 0,10,12, 0, 0, 0,
   0, 0, 0,14, 6, 0, 0, 0,
   0, 0, 2,16, 2, 0, 0, 0]', k => 4) AS nearest
JOIN pictures ON pictures.id = nearest.id
GROUP BY y
ORDER BY y",
    ),
    (
        "5. What it could be mistaken for: the digits nearest to it that are no seven:",
        "SELECT id, label, image <-> '[
   0,0,8,16,16,16,8,0, 0,0,6,8,8,15,9,0, 0,0,0,0,4,16,2,0, 0,0,4,8,14,15,4,0,
   0,0,8,16,16,12,4,0, 0,0,0,10,12,0,0,0, 0,0,0,14,6,0,0,0, 0,0,2,16,2,0,0,0]'
  AS distance
FROM digits
WHERE label <> 7
ORDER BY distance
LIMIT 5",
    ),
    (
        "6. How they were found: the condition first, then the index:",
        "EXPLAIN SELECT id, label, _distance FROM vector_search('digits', 'image', '[
   0,0,8,16,16,16,8,0, 0,0,6,8,8,15,9,0, 0,0,0,0,4,16,2,0, 0,0,4,8,14,15,4,0,
   0,0,8,16,16,12,4,0, 0,0,0,10,12,0,0,0, 0,0,0,14,6,0,0,0, 0,0,2,16,2,0,0,0]',
  k => 5, filter => 'label <> 7')",
    ),
];

/// The last words.
pub(crate) fn how_to_go_on(dir: &str) -> String {
    format!(
        "
Go on in the shell:

  cairn {dir}

and try:

  UPDATE notes SET altitude_m = 5 WHERE place = 'sea' AND altitude_m IS NULL RETURNING id, title;
  EXPLAIN ANALYZE SELECT count(*) FROM lineitem WHERE l_orderkey = 12345;
  SELECT line FROM pictures WHERE id = 275 ORDER BY y;
  SELECT id, label FROM digits ORDER BY image <-> (SELECT image FROM digits WHERE id = 275) LIMIT 5;
  SELECT a.id, a.label, b.id AS other, b.label AS its_label, a.image <-> b.image AS distance
    FROM digits AS a JOIN digits AS b ON a.label < b.label ORDER BY distance LIMIT 3;
  COPY (SELECT * FROM notes ORDER BY id) TO 'notes.csv' WITH (format 'csv');

.tables lists the tables, .schema lineitem describes one, .help says the rest.
The digits: E. Alpaydin, C. Kaynak (1998), UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, licensed under CC BY 4.0.
"
    )
}
