from helpdesk.cli import run

run()
