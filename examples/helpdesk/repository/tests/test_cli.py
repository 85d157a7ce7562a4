def test_a_ticket_is_opened_listed_and_closed(helpdesk):
    assert helpdesk("open", "Printer is on fire", "--customer", "Ada") == (0, "#1 is open\n", "")
    assert "Printer is on fire" in helpdesk("list")[1]
    assert helpdesk("close", "1") == (0, "#1 is closed\n", "")
    assert "Printer" not in helpdesk("list")[1]
    assert "Printer" in helpdesk("list", "--all")[1]


def test_a_ticket_is_shown(helpdesk):
    helpdesk("open", "Printer", "--customer", "Ada")
    out = helpdesk("show", "1")[1]
    assert "Ada" in out
    assert "open" in out


def test_errors_go_to_standard_error(helpdesk):
    code, out, err = helpdesk("close", "7")
    assert (code, out, err) == (1, "", "error: there is no ticket #7\n")
