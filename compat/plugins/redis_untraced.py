"""redis-py's suite traces each allocation of its client, which says nothing of a mesh and halves its speed."""
import tracemalloc

tracemalloc.start = tracemalloc.stop = lambda *_: None
