"""The projector: builds read models and answers queries."""
