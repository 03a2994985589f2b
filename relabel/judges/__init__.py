"""What is asked: rules, a similarity, a prompt, a person."""
