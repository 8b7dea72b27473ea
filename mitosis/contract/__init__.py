"""What crosses a process border: requests, queries, replies, subjects and their wire form."""
