"""What runs where the person is: plan, submit, watch. No torch."""
