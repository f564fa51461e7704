"""``make demo``: the story of one conversation over the edge of its window, played on the real servers and watched from outside."""
