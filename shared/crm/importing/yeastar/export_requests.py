"""Our requests → Yeastar's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shared.crm.form.requests import Request
from shared.crm.importing.yeastar.says import Names, Speaker, Xml, json_source, query_text


class RequestWriter:
    def __init__(self, speaker: Speaker, *, answer: str) -> None:
        """*answer*: json or xml."""
        self._speaker = speaker
        self._answer = answer
        self.notes = speaker.notes

    def add(
        self,
        requests: Xml,
        name: str,
        request: Request,
        place: str,
        names: Names,
        *,
        literals: Mapping[str, str] | None = None,
        weight: int | None = None,
        event: str | None = None,
    ) -> Xml:
        def said(text: str) -> str:
            return self._speaker.text(text, place, names, literals=literals)

        url = said(request.url)
        for key, value in request.query.items():
            for text in (value,) if isinstance(value, str) else value:
                mark = "&" if "?" in url else "?"
                url += f"{mark}{query_text(key)}={query_text(said(text))}"
        if request.when is not None:
            url = self._conditional(url, said(request.when), place)
        body, encoding = self._body(request, place, said)
        element = requests.add(
            "Request",
            Name=name,
            Method=request.method,
            URLFormat=url,
            ResponseType=f"application/{self._answer}",
            RequestEncoding=encoding,
            Weight=None if weight is None else str(weight),
            TriggeredEvent=event,
        )
        parameters = element.add("Parameters")
        for header, text in request.headers.items():
            parameters.add("Parameter", Name=header, Type="Header", Value=said(text))
        if body:
            parameters.add("Parameter", Name="Data", Type="Body", Value=body)
        return element

    def _conditional(self, url: str, when: str, place: str) -> str:
        inner = when.strip()
        if inner.startswith("{{") and inner.endswith("}}") and inner.count("{{") == 1:
            return f"{{{{if {inner[2:-2].strip()}}}}}{url}{{{{end}}}}"
        self.notes.left(f"{place}.when", "a condition that is no single placeholder")
        return url

    def _body(self, request: Request, place: str, said: Callable[[str], str]) -> tuple[str, str]:
        if request.json_text is not None:
            return said(request.json_text), ""
        if request.json_body is not None:
            return said(json_source(request.json_body)), ""
        if request.form is not None:
            pairs = (
                f"{query_text(name)}={query_text(said(text))}"
                if isinstance(text, str)
                else f"{query_text(name)}={query_text(said(json_source(text)))}"
                for name, text in request.form.items()
            )
            return "&".join(pairs), "application/x-www-form-urlencoded"
        if request.body is not None:
            return said(request.body), request.content_type or ""
        if request.multipart is not None:
            self.notes.left(place, "a body of several parts")
        return "", ""
