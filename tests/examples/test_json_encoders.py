"""Our imitations of other languages' JSON encoders match the real ones byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.contract.body_oracle import TEXTS
from tests.json_encoders import ENCODERS

# Every character of the first blocks, line separators, private use, half-width, specials, and some beyond the first plane.
_RANGES: Final = (range(0x180), range(0x370, 0x400), range(0x2000, 0x2070), range(0xE000, 0xE004), range(0xFF00, 0x10000))
_SAMPLES: Final = [*TEXTS, *("".join(map(chr, one)) for one in _RANGES), "\U0001f600\U00010000\U0010ffff"]

_JAVA: Final = """\
import java.nio.file.*;
import java.util.*;
public class Encode {
    public static void main(String[] names) throws Exception {
        var mapper = new com.fasterxml.jackson.databind.ObjectMapper();
        List<?> texts = mapper.readValue(Path.of(names[0]).toFile(), List.class);
        Files.writeString(Path.of(names[1] + "-jackson"), mapper.writeValueAsString(texts));
        Files.writeString(Path.of(names[1] + "-gson"), new com.google.gson.Gson().toJson(texts));
    }
}
"""
_GO: Final = """\
package main

import ("encoding/json"; "os")

func main() {
	source, _ := os.ReadFile(os.Args[1])
	var texts []string
	if err := json.Unmarshal(source, &texts); err != nil { panic(err) }
	encoded, _ := json.Marshal(texts)
	os.WriteFile(os.Args[2]+"-go", encoded, 0o600)
}
"""
_RUBY: Final = """\
require "json"
texts = JSON.parse(File.read(ARGV[0], encoding: "UTF-8"))
File.write(ARGV[1] + "-ruby", JSON.generate(texts))
begin
  require "active_support"
  require "active_support/json"
  File.write(ARGV[1] + "-rails", ActiveSupport::JSON.encode(texts))
rescue LoadError
end
"""
_PHP: Final = '<?php file_put_contents($argv[2] . "-php", json_encode(json_decode(file_get_contents($argv[1]))));'
_PYTHON: Final = 'import json, sys; open(sys.argv[2] + "-python", "w").write(json.dumps(json.load(open(sys.argv[1]))))'
_POM: Final = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>tests</groupId><artifactId>encoders</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>com.google.code.gson</groupId><artifactId>gson</artifactId><version>2.11.0</version></dependency>
    <dependency>
      <groupId>com.fasterxml.jackson.core</groupId><artifactId>jackson-databind</artifactId><version>2.17.2</version>
    </dependency>
  </dependencies>
</project>
"""


def _run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr or done.stdout


def _script(name: str, text: str, *program: str) -> Callable[[Path], None]:
    def run(here: Path) -> None:
        (here / name).write_text(text, encoding="utf-8")
        _run(*program, here / name, "texts.json", "encoded", cwd=here)

    return run


def _java(here: Path) -> None:
    (here / "pom.xml").write_text(_POM, encoding="utf-8")
    (here / "Encode.java").write_text(_JAVA, encoding="utf-8")
    _run("mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=jars", cwd=here)
    _run("java", "-cp", "jars/*", "Encode.java", "texts.json", "encoded", cwd=here)


LANGUAGES: Final = {
    "python": (_script("encode.py", _PYTHON, sys.executable), ["python"]),
    "ruby": (_script("encode.rb", _RUBY, "ruby"), ["ruby", "rails"]),
    "php": (_script("encode.php", _PHP, "php"), ["php"]),
    "go": (_script("encode.go", _GO, "go", "run"), ["go"]),
    "java": (_java, ["jackson", "gson"]),
}


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_an_imitation_matches_the_encoder(language: str, tmp_path: Path) -> None:
    run, names = LANGUAGES[language]
    (tmp_path / "texts.json").write_text(json.dumps(_SAMPLES), encoding="ascii")
    run(tmp_path)
    for name in names:
        written = tmp_path / f"encoded-{name}"
        # Debian's package ruby-activesupport is optional; everything else is required.
        if name == "rails" and not written.exists():
            continue
        assert written.read_bytes().decode() == ENCODERS[name](_SAMPLES), name
