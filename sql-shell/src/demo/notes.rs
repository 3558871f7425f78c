//! A small table of text, written for the demo.

/// The table's name.
pub(crate) const NAME: &str = "notes";

/// Its definition.
pub(crate) const CREATE: &str = "CREATE TABLE notes (id BIGINT PRIMARY KEY, place TEXT NOT NULL, title TEXT NOT NULL, \
     body TEXT, altitude_m INTEGER, written_on DATE NOT NULL)";

/// Its rows.
pub(crate) const INSERT: &str = "\
INSERT INTO notes (id, place, title, body, altitude_m, written_on) VALUES
  (1, 'sea', 'First light', 'The harbour wakes before the sun does. Ropes creak, gulls argue, and the tide has already turned.', 0, DATE '2024-03-02'),
  (2, 'sea', 'Reading the tide table', 'High water at six, low at noon. The causeway is dry for two hours and not a minute more.', 0, DATE '2024-03-02'),
  (3, 'sea', 'Fog bank', 'It came in like a wall and took the lighthouse first. We counted the horn and waited.', 3, DATE '2024-03-05'),
  (4, 'sea', 'Kelp after the storm', 'The beach smells of iodine. Whole forests torn loose, still holding their stones.', 1, DATE '2024-03-11'),
  (5, 'sea', 'The ferryman''s rule', 'Never trust a calm that has no birds in it.', NULL, DATE '2024-04-01'),
  (6, 'sea', 'Salt on the windows', 'You can see the direction of last night''s wind written on the glass.', 12, DATE '2024-04-09'),
  (7, 'sea', 'Night swim', 'Every stroke lit a small green fire. Nobody spoke until we were back on the rocks.', 0, DATE '2024-08-13'),
  (8, 'sea', 'Harbour seal', NULL, 0, DATE '2024-08-14'),
  (9, 'sea', 'Neap and spring', 'When the moon is half the tide is lazy; when it is full the sea comes up to look at the road.', 2, DATE '2024-08-19'),
  (10, 'sea', 'Last boat', 'The season ends without a word: one morning the ticket window is simply closed.', 0, DATE '2024-10-31'),
  (11, 'mountains', 'Cairns in the mist', 'Each pile of stones is a sentence left by someone who could see the next one. You add a stone and walk on.', 1840, DATE '2025-06-07'),
  (12, 'mountains', 'The hut book', 'Names, dates, the weather. Someone drew a marmot in 1974 and every guest since has drawn it a friend.', 2212, DATE '2025-06-08'),
  (13, 'mountains', 'Snow bridge', 'We heard the stream before we trusted the snow above it, and went round.', 2390, DATE '2025-06-08'),
  (14, 'mountains', 'Scree', 'Two steps up, one step down. The mountain is on its way to the sea, slowly, and we are helping.', 2455, DATE '2025-06-09'),
  (15, 'mountains', 'Above the clouds', 'The valley was a bay with islands in it, and every island had been a summit yesterday.', 2871, DATE '2025-06-10'),
  (16, 'mountains', 'Chough', 'It took the bread out of the air as if the air had offered it.', 2871, DATE '2025-06-10'),
  (17, 'mountains', 'Larch in autumn', 'The only conifer with the courage to let everything go.', 1710, DATE '2025-10-12'),
  (18, 'mountains', 'First frost', 'The tent cracked like paper when we folded it. Tea tasted of nothing else all day.', 1955, DATE '2025-10-13'),
  (19, 'mountains', 'Weather window', 'The forecast gave us until two. We turned at noon, which is why I am writing this.', 2640, DATE '2025-10-14'),
  (20, 'mountains', 'Coming down', 'Legs like water, boots full of small stones. At the last bend, far off, a line of light: the sea.', 640, DATE '2025-10-15')";
