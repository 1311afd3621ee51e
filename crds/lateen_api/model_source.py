# SPDX-License-Identifier: Apache-2.0
"""Where weights come from: one uri, checked by its scheme. Used for models and for their adapters."""

from typing import Annotated

from pydantic import Field

from lateen_api.schema import SpecType, matching, rule, rules

SCHEMES = ("hf", "s3", "gs", "az", "https", "oci", "pvc", "file")
_STARTS = " || ".join(f"self.uri.startsWith('{scheme}://')" for scheme in SCHEMES)


def _scheme(scheme: str, pattern: str, message: str) -> dict[str, str]:
    return rule(f"!self.uri.startsWith('{scheme}://') || self.uri.matches(r'{pattern}')", message)


class SecretReference(SpecType):
    """A Secret of the same namespace."""

    name: Annotated[
        str,
        matching(
            r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
            "must be the name of a Secret: lower-case letters, digits, '-' and '.'",
            max_length=253,
        ),
    ]
    """Name of the Secret."""


class WeightsSource(SpecType):
    """Where weights come from."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                _STARTS,
                "uri must start with hf://, s3://, gs://, az://, https://, oci://, pvc:// or file://, for example"
                " hf://org/name@revision, s3://bucket/path, pvc://claim/path or file:///srv/models/name",
            ),
            _scheme(
                "hf",
                "^hf://[A-Za-z0-9][-A-Za-z0-9._]*/[A-Za-z0-9][-A-Za-z0-9._]*(@[-A-Za-z0-9._/]+)?$",
                "an hf:// uri is hf://org/name or hf://org/name@revision",
            ),
            *(
                _scheme(
                    scheme,
                    f"^{scheme}://[a-z0-9][-a-z0-9._]*/.+$",
                    f"an {scheme}:// uri is {scheme}://bucket/path/to/the/folder",
                )
                for scheme in ("s3", "gs", "az")
            ),
            _scheme(
                "https",
                r"^https://[A-Za-z0-9.-]+(:[0-9]+)?/.+$",
                "an https:// uri is https://host/path of an archive (.tar.gz, .tgz, .tar, .zip) or of a folder's"
                " files.txt, without user name or password",
            ),
            _scheme(
                "oci",
                r"^oci://[a-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})?$",
                "an oci:// uri is oci://registry/repository:tag or oci://registry/repository@sha256:digest",
            ),
            _scheme(
                "pvc",
                "^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.*)?$",
                "a pvc:// uri is pvc://claim or pvc://claim/path",
            ),
            rule(
                "!self.uri.startsWith('file://') || self.uri.startsWith('file:///')",
                "a file:// uri has three slashes and an absolute path: file:///srv/models/name",
            ),
            rule("!self.uri.contains('/..')", "uri must not contain '..'; name the folder itself"),
        )
    }

    uri: Annotated[str, Field(min_length=6, max_length=1024)]
    """`hf://org/name@revision` (a model hub), `s3://`, `gs://` or `az://bucket/path` (an object store), `https://` (an
    archive, or the list `files.txt` of a folder), `oci://registry/repository:tag` (a model artifact), `pvc://claim/path`
    (a volume mounted by the Ray nodes) or `file:///path` (a folder of the node, below a root the administrator allows).
    It holds safetensors weights, `config.json` and the tokenizer, as transformers saves them, or one GGUF file.
    Pickled weights are refused."""

    secret_ref: SecretReference | None = None
    """Secret with the credentials of the source: `token` (a hub, a registry or https), `username` and `password` (a
    registry or https), `access_key_id` and `secret_access_key` (s3), `service_account_key` (gs), `account_name` with
    `account_key` or `sas_key` (az), or `skip_signature: "true"` (a public bucket). `endpoint` is for s3 and az alone."""

    digest: (
        Annotated[
            str,
            matching(
                r"^sha256:[0-9a-f]{64}$",
                "must be sha256: and 64 hex digits; `lateen digest FOLDER` prints it",
                max_length=71,
                min_length=71,
            ),
        ]
        | None
    ) = None
    """Checksum of the folder's files; other content is refused with DigestMismatch."""


class ModelSource(WeightsSource):
    """Where a model's weights come from."""
