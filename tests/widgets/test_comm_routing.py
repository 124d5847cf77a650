"""Messages of a page against what ipykernel remembers of earlier requests; with a real kernel in test_jupyter.py."""

from types import SimpleNamespace

from ipykernel.comm.comm import BaseComm

from harmonia_lab.widgets.comm_routing import use_requested_subshell


def test_a_message_goes_where_the_page_asks_whatever_the_kernel_remembers():
    comm = BaseComm(comm_id="c")
    comm._reply_subshell_id = "a subshell that is gone"
    use_requested_subshell(SimpleNamespace(comm=comm))
    assert comm._reply_subshell_for({"content": {"ask": "cancel"}}, "the page's own") == "the page's own"
    assert comm._reply_subshell_for({}, None) is None


def test_a_kernel_that_remembers_nothing_is_left_alone():
    comm = SimpleNamespace(comm_id="c")
    use_requested_subshell(SimpleNamespace(comm=comm))
    assert vars(comm) == {"comm_id": "c"}
