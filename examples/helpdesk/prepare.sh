#!/usr/bin/env bash
# Fills an empty bare repository with the project that the run finds. Usage: prepare.sh REPOSITORY
set -euo pipefail
repository=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/repository"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R . "$work"
cd "$work"
# The same commit every time: name and date are fixed, the user's own settings do not count.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME="Support team" GIT_AUTHOR_EMAIL=support@helpdesk.example GIT_AUTHOR_DATE="2025-03-01T09:30:00Z"
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
git init --quiet --initial-branch=main
git add --all
git commit --quiet --message "Helpdesk: tickets are opened, listed, shown and closed"
git push --quiet "$repository" main
