"""Key figures of the whole house: counted by each stage, rolled up per day and month, opened to their rows."""
