"""Embeddings in and out: clip-retrieval's layout, rclip's database. Nothing is encoded anew."""
