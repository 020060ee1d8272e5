"""What is measured, section by section; each module has `tasks(bench)`."""
