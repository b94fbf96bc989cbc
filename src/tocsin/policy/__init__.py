"""What is done about alarms and failures. Pure, and all of it in tables."""
