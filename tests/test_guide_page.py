"""`docs/guide.md` names only what exists, under the guide's headings, and counts itself rightly."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")

HEADINGS = """
## Overview
## Architecture
### Multi-Stage Song Generation Pipeline
### Event-Driven Architecture
### Frontend (Angular)
### Backend (NestJS)
## WebSocket Architecture Overview
### Event-Driven Architecture
### Frontend Architecture (Angular)
### Backend Architecture (NestJS)
## Installation
### Frontend Dependencies
### Backend Dependencies
## WebSocket Events Specification
### Song Generation Events
#### Metadata Generation Phase
#### Audio Generation Phase
#### Error and Control Events
## Frontend Implementation
### WebSocket Service
### Progress Tracking Components
## Backend Implementation
### Song Generation Gateway
### Progress Broadcasting Service
## NGRX Integration
### Song Generation Actions
### Song Generation Reducer
## Error Handling and Recovery
### Automatic Reconnection
### Error Recovery Strategies
## Performance Optimization
### Connection Pooling
### Memory Management
### Monitoring and Observability
## Security Considerations
### Authentication and Authorization
### Data Privacy
## Testing Strategy
### Unit Tests
### Integration Tests
## Deployment Considerations
### Production Configuration
### Load Balancing
### Monitoring and Alerting
## Summary
### Connecting on Authentication
## Backend Implementation Details
### Jobs Gateway (`apps/backend/src/app/gateways/jobs.gateway.ts`)
### Register Gateway in Module
## Event Types
### Client → Server (Subscriptions)
### Server → Client (Broadcasts)
## Room-Based Broadcasting
### Room Naming Conventions
### Broadcasting to Rooms
## NGRX State Management Integration
### Job Actions for Real-Time Updates
### Reducer Handling
## Authentication
### JWT Token Validation (Backend)
### Sending Token from Frontend
## Error Handling
### Connection Errors
### Reconnection Strategy
### Timeout Handling
## Component Usage
### Subscribe to Job Updates
### Display Real-Time Progress
## Testing
### Frontend Service Testing
### Backend Gateway Testing
## Performance Optimization Strategies
### Debounce Frequent Updates
### Selective Room Subscriptions
## Security Best Practices
## Resources
"""
"""The guide's, in its order; more #, deeper."""

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| the guide asks |")
]
"""Cells: what the guide asks, code, test, what is not done or done otherwise."""


@cache
def names(path: Path) -> frozenset[str]:
    """Names that a file defines: `function`, `Class`, `Class.method`, `VARIABLE`, `Class.field`."""
    found: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    collect(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return frozenset(found)


def exists(reference: str) -> bool:
    file, _, name = reference.partition("::")
    path = ROOT / file if file.startswith(("tests/", "benchmarks/")) else ROOT / "harmonia_lab" / file
    return path.is_file() and name.replace("::", ".") in names(path)


def references(cell: str) -> list[str]:
    return re.findall(r"`([^`\s]+::[^`\s]+)`", cell)


def test_every_heading_of_the_guide_is_there_in_the_guides_order():
    assert re.findall(r"^##+ .+$", PAGE, re.MULTILINE) == HEADINGS.strip().splitlines()


def test_everything_that_a_row_names_exists():
    missing = sorted({each for row in ROWS for cell in row for each in references(cell) if not exists(each)})
    assert missing == []


def test_a_name_that_does_not_exist_is_found():
    assert exists("server/rooms.py::Rooms.enter")
    assert not exists("server/rooms.py::Rooms.no_such_method")
    assert not exists("server/no_such_file.py::Rooms")


def test_every_row_has_code_and_a_test_or_says_why_not():
    for asked, code, test, note in ROWS:
        assert all("::test_" in each for each in references(test)), asked
        assert not note or note.startswith(("Not done: ", "Otherwise: ")), asked
        assert (references(code) and references(test)) or note, asked


def test_the_count_at_the_head_is_the_tables():
    kinds = Counter("not" if "Not done: " in note else "other" if note else "done" for *_, note in ROWS)
    assert (
        f"\n{len(ROWS)} rows: {kinds['done']} as the guide has it, {kinds['other']} done otherwise, "
        f"{kinds['not']} not done or not wholly done.\n" in PAGE
    )
