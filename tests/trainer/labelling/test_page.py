from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.messaging.topics import ID_PATTERN
from trainer.labelling.page import write_page
from trainer.labelling.tracklets import Suggestion

# Types names as a person does, and leaves what came of it in the page.
DRIVER = """
<script>
const key=(n,key,text)=>{const f=field(n);f.focus();if(text!==undefined)f.value=text;
f.dispatchEvent(new KeyboardEvent('keydown',{key,bubbles:true,cancelable:true}))};
const hints=()=>Object.fromEntries(order.map(n=>[n,cards.get(n).querySelector('.hint')
.textContent]));
const out={};
out.first=hints();
key('p1','ArrowRight');
out.accepted=names.get('p1');
key('p1','Enter','  Cow 7 ');
out.focus=document.activeElement.closest('.card').dataset.name;
out.tidy=names.get('p1');
out.second=hints();
key('p2','Enter','cow-7');
out.why=cards.get('p2').querySelector('.why').textContent;
out.state=document.getElementById('state').textContent;
key('p2','Enter','!t');
key('p3','Enter','unknown');
out.reserved=cards.get('p3').querySelector('.why').textContent;
key('p3','Escape');
cards.get('p4').querySelector('[data-mark]').click();
out.table=table();
load('\\ufefftracklet;animal\\r\\np3;cow-9\\r\\nnobody;x1\\r\\n');
out.loaded=table();
out.kept=localStorage.getItem(store);
const result=document.createElement('pre');result.id='result';
result.textContent=JSON.stringify(out);document.body.append(result);
</script>
"""


@pytest.fixture
def page(tracklet: Callable, propose: Callable) -> str:
    suggestion = Suggestion(animal="pig01", distance=0.125)
    proposal, root = propose(
        tracklet("p1", together=["p2"], suggestion=suggestion, camera="</script><b>"),
        tracklet("p2", together=["p1"], track=2, suggestion=suggestion),
        tracklet("p3", track=1, first_time="2026-05-04T11:59:59.000Z"),
        tracklet("p4", track=3, alike=[("p2", 0.3), ("p1", 0.4)]),
    )
    return write_page(proposal, root)


def test_the_page_needs_nothing_beside_it(page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "http" not in page
    assert page.count("data:image/jpeg;base64,") == 8
    assert page.count("<svg") == 4
    assert "0:00:00.0 to 1:01:01.5" in page


def test_names_cannot_break_out_of_the_page(page: str) -> None:
    assert "</script><b>" not in page
    assert "&lt;/script&gt;&lt;b&gt;" in page
    (data,) = re.findall(r'id="data">(.*?)</script>', page)
    content = json.loads(data)
    assert [t["name"] for t in content["tracklets"]] == ["p1", "p2", "p3", "p4"]
    assert content["tracklets"][0]["suggestion"] == {"animal": "pig01", "distance": 0.125}


def test_the_browser_checks_ids_as_devices_do(page: str) -> None:
    (data,) = re.findall(r'id="data">(.*?)</script>', page)
    content = json.loads(data)
    assert content["pattern"] == ID_PATTERN.removesuffix(r"(?!\n)")
    assert content["reserved"] == ["crowded", "unknown", "unsure"]
    assert content["marks"] == ["!not-an-animal", "!two-animals"]


@pytest.mark.slow
def test_a_person_names_tracklets(page: str, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser")
    path = tmp_path / "index.html"
    path.write_text(page.replace("</body>", f"{DRIVER}</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (found,) = re.findall(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    out = json.loads(html.unescape(found))
    mean = "pig01 (nearest class mean, 0.13)"
    assert out["first"] == {"p1": mean, "p2": mean, "p3": "", "p4": ""}
    assert out["accepted"] == "pig01"
    assert (out["tidy"], out["focus"]) == ("cow-7", "p2")
    # p3 is of p1's track; p4 looks like p2, which has no name, and like p1, which has one.
    assert out["second"] == {
        "p1": "",
        "p2": mean,
        "p3": "cow-7 (same track as p1)",
        "p4": "cow-7 (looks like p1, 0.40)",
    }
    assert out["why"] == "in one picture with p1, so not the same animal"
    assert out["state"].startswith("2 of 4 named, 1 animals, 0 set aside 2 to correct")
    assert "meaning of its own" in out["reserved"]
    assert out["table"] == "tracklet,animal\np1,cow-7\np2,!two-animals\np4,!not-an-animal\n"
    assert "p3,cow-9\n" in out["loaded"]
    assert ["p3", "cow-9"] in json.loads(out["kept"])
