"""Networks: encoders that map fillings of skeletons to embeddings of their sites."""
