"""The only code that touches partition files: segments, indexes, recovery, retention, and the one flusher per disk."""
