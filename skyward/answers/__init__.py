"""How answers reach the user's threads: futures, streams, values, and who waits for them."""
