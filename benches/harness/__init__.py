"""What `benches/peers/run` and `benches/growth/run` share: a place, processes, load, its parsers."""
