"""What is measured, a file for each subject. A section starts what it needs and leaves nothing behind."""
