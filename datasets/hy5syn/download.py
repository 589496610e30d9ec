"""Download of HY5SYN from Edmond, the Dataverse repository of its authors' institute.

The repository's listing names the files and their checksums; see the native API and the data access
API at guides.dataverse.org.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil

import requests
import tensorflow_datasets.public_api as tfds

from eal_icnet_jax.system.errors import UserError

SERVER = "https://edmond.mpg.de"
LISTING = "/api/datasets/:persistentId/?persistentId=doi:10.17617/3.HY5SYN"
FILE = "/api/access/datafile/{id}"
FOLDERS = {"sems": re.compile(r"sem\d+\.png"), "labels": re.compile(r"label\d+\.svg")}
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
MANUAL_ADVICE = (
    "get it from doi.org/10.17617/3.HY5SYN with a browser and name its folder as the manual_dir"
)


def _is_wanted(name: str) -> bool:
    return name.endswith(ARCHIVES) or any(part.fullmatch(name) for part in FOLDERS.values())


def _checksum(path: pathlib.Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind.replace("-", "").lower()).hexdigest()


def _listing() -> str:
    try:
        reply = requests.get(SERVER + LISTING, timeout=60)
        reply.raise_for_status()
    except requests.RequestException as error:
        raise UserError(
            f"HY5SYN cannot be downloaded, because {SERVER} does not answer "
            f"({type(error).__name__}): {MANUAL_ADVICE}"
        ) from error
    return reply.text


def _files(listing: str) -> dict[str, dict]:
    """Return id and checksum of each wanted file in the listing, by the file's name.

    Raises:
      UserError: the listing does not have the documented form, or names no such file.
    """
    try:
        entries = [
            entry["dataFile"] for entry in json.loads(listing)["data"]["latestVersion"]["files"]
        ]
        wanted = {
            entry["filename"]: {
                "id": int(entry["id"]),
                "kind": entry["checksum"]["type"],
                "value": entry["checksum"]["value"],
            }
            for entry in entries
            if _is_wanted(entry["filename"])
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the listing of HY5SYN at {SERVER} does not have the documented form "
            f"({type(error).__name__} {error}): {MANUAL_ADVICE}"
        ) from error
    if not wanted:
        raise UserError(
            f"the listing of HY5SYN at {SERVER} names no tile or archive: {MANUAL_ADVICE}"
        )
    return wanted


def download(dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
    """Download the missing files, check them, and lay them out as sems/ and labels/.

    Returns:
      The folder that holds both.

    Raises:
      UserError: the server cannot be reached, or a file differs from the listing.
    """
    files = _files(_listing())
    urls = {name: SERVER + FILE.format(**entry) for name, entry in files.items()}
    try:
        paths = dl_manager.download(urls)
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise UserError(
            f"the download of HY5SYN broke off ({type(error).__name__}): try again, complete "
            "files are kept"
        ) from error
    root = pathlib.Path(next(iter(paths.values()))).parent / "tree"
    for name, path in paths.items():
        path = pathlib.Path(path)
        if _checksum(path, files[name]["kind"]) != files[name]["value"].lower():
            raise UserError(
                f"{path}, downloaded as {name}, does not have the checksum that {SERVER} lists: "
                "remove it and try again"
            )
        if name.endswith(ARCHIVES):
            for member in pathlib.Path(dl_manager.extract(path)).rglob("*"):
                _place(member, member.name, root)
        else:
            _place(path, name, root)
    return root


def _place(path: pathlib.Path, name: str, root: pathlib.Path):
    """Link or copy a file into the folder for its name. Files with other names are ignored."""
    for folder, pattern in FOLDERS.items():
        if pattern.fullmatch(name):
            target = root / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                os.link(path, target)
            except OSError:  # the file system has no hard links
                shutil.copyfile(path, target)
