"""Who answers: engines take requests and give replies."""
