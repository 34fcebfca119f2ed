"""What a person needs to try the product out: a simulated OMS and sample receivers."""
