"""``make demo``: one conversation before and after its window closes, on real servers, observed from outside."""
