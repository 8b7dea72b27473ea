"""What a task, a start and a read cost after a long history or behind a long queue."""
