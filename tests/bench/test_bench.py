"""The parts of the benchmark that only compute."""

import pytest

from bench import instructions, publish, results, workers, wrk
from bench.measure import Sample
from bench.servers import SERVERS
from bench.workloads import WORKLOADS

PRINTED = """\
Running 2s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Latency Distribution
     50%  850.00us
     75%    2.00ms
     90%    3.00ms
     99%    1.25s \n\
  5000 requests in 2.10s, 1.00MB read
  Socket errors: connect 1, read 2, write 0, timeout 4
  Non-2xx or 3xx responses: 10
"""


def sample(cpu, rate=1000.0):
    return Sample(rate=rate, user=cpu / 4, system=cpu * 3 / 4, p50=1, p99=2, pss=3, errors=0)


def test_what_wrk_prints_is_understood():
    load = wrk.parse(PRINTED)
    assert load == wrk.Load(requests=5000, seconds=2.1, p50=0.85, p99=1250.0, errors=17)


def test_other_output_is_refused():
    with pytest.raises(ValueError):
        wrk.parse("unable to connect")


def test_one_outlier_does_not_move_the_median():
    kept = results.Results({})
    for cpu in [5.0, 4.0, 100.0]:
        kept.add("hello", "bjoern", sample(cpu))
    assert kept.medians("hello")["bjoern"].cpu == pytest.approx(5.0)


def test_the_ratio_is_to_the_cheapest_that_is_not_ours():
    medians = {"serve-sync": sample(5.0), "bjoern": sample(8.0), "granian": sample(12.0)}
    assert results.best_peer(medians) == "bjoern"
    assert [row[-1] for row in results.table(medians)[1:]] == ["0.62", "1.00", "1.50"]


def test_results_survive_the_file(tmp_path):
    kept = results.Results({"rounds": 1}, {"hello": {"bjoern": [sample(5.0)]}})
    kept.write(tmp_path / "kept.json")
    again = results.Results.read(tmp_path / "kept.json")
    assert (again.about, again.samples) == (kept.about, kept.samples)


def test_quotes_reach_lua_whole():
    assert wrk.quoted('{"a": "\\"}') == '"{\\"a\\": \\"\\\\\\"}"'


def test_only_the_measured_part_of_the_page_is_renewed():
    machine = {"cpu": "x", "cores": 2, "kernel": "6", "python": "3"}
    about = {"machine": machine, "versions": {}, "rounds": 1, "seconds": 1}
    kept = results.Results(about, {WORKLOADS[0].name: {"bjoern": [sample(5.0)]}})
    page = publish.renewed(f"before\n{publish.BEGIN}old\n{publish.END}after\n", kept)
    assert page.startswith("before\n") and page.endswith("after\n")
    assert "| bjoern | 5.00 |" in page and "old" not in page


def test_the_worker_classes_stand_side_by_side():
    kept = results.Results({})
    for route in workers.ROUTES:
        for server in workers.SERVERS[:3]:
            kept.add(route, server.name, sample(5.0, rate=320.0))
    kept.samples["mixed"].pop("serve-async")
    rows = workers.table(kept)
    assert [row[0] for row in rows[1:]] == ["serve-sync", "serve-threads", "serve-async"]
    assert rows[1][1:4] == ["320", "1.00", "2.00"]
    assert rows[3][7:] == ["", "", "", "3.00"]
    assert {len(row) for row in rows} == {11}


def test_servers_for_a_crowd_are_compared_with_each_other():
    for workload in WORKLOADS:
        names = {server.name for server in SERVERS if server.does(workload)}
        assert ("serve-threads-1000" in names) == workload.crowd
        assert ("serve-sync" in names) == (not workload.crowd)


def test_a_wheel_that_needs_more_than_three_percent_more_is_wrong(capsys):
    assert instructions.comparison(20_000, 20_601).endswith("+3.0%: too many")
    assert instructions.comparison(20_000, 20_599) is None
    assert capsys.readouterr().out.startswith("binary 20,000, wheel 20,599 instructions")
