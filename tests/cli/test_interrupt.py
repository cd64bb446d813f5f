import signal


def test_the_first_ctrl_c_stops_at_the_next_step_and_says_so(start, workflow, flag):
    file = workflow(n1=("TestWait", {"flag": str(flag)}), n2=("TestWrite", {"text": ["1", 0]}))
    process = start("run", file)
    flag.wait(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping at the next step" in err
    assert '"status": "cancelled"' in out


def test_the_second_ctrl_c_quits_at_once(start, workflow, flag):
    process = start("run", workflow(n1=("TestBlock", {"flag": str(flag)}), n2=("TestWrite", {"text": ["1", 0]})))
    flag.wait(process)
    process.send_signal(signal.SIGINT)
    line = ""
    while "stopping" not in line:
        line = process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130


def test_what_was_computed_before_the_interruption_is_kept(start, weft, workflow, flag):
    file = workflow(
        n1=("TestSeeded", {"text": "x"}),
        n2=("TestWait", {"text": ["1", 0], "flag": str(flag)}),
        n3=("TestWrite", {"text": ["2", 0]}),
    )
    process = start("run", file)
    flag.wait(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert weft("run", file, "--set", "2.steps=1").records[-1]["hits"] == ["1"]
