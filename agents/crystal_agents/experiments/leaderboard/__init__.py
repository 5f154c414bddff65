"""Leaderboard: submissions, their validation, and the page that shows them."""
