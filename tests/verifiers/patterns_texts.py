"""Values that the built-in rules find, and text to plant them in; none of them is anyone's."""

import random

X40 = "a8Kd02mZq71LrT5vWx93BnYc46HsJe0fGu1pIo2t"
"""Forty characters that look random."""

VALUES: dict[str, str] = {
    "aws_access_key_id": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws_secret_access_key": "aws_secret_access_key: " + X40,
    "google_api_key": "AIza" + X40[:35],
    "google_oauth_secret": "GOCSPX-" + X40[:28],
    "google_oauth_token": "ya29." + X40,
    "azure_storage_key": "AccountKey=" + X40 + X40 + "abcdef==",
    "azure_sas_signature": "?sig=" + X40 + "abc%3D",
    "azure_client_secret": "abc8Q~" + X40[:34],
    "digitalocean_token": "dop_v1_" + "0123456789abcdef" * 4,
    "cloudflare_origin_ca_key": "v1.0-" + "0123456789abcdef01234567-" + "0123456789abcdef" * 4,
    "terraform_cloud_token": X40[:14] + ".atlasv1." + X40 + X40,
    "vault_token": "hvs." + X40,
    "databricks_token": "dapi" + "0123456789abcdef" * 2,
    "github_token": "ghp_" + X40[:36],
    "github_fine_grained_token": "github_pat_" + X40[:22] + "_" + X40,
    "gitlab_token": "glpat-" + X40[:20],
    "atlassian_token": "ATATT3" + X40,
    "bitbucket_app_password": "ATBB" + X40[:32],
    "npm_token": "npm_" + X40[:36],
    "pypi_token": "pypi-AgE" + X40,
    "rubygems_key": "rubygems_" + "0123456789abcdef" * 3,
    "docker_token": "dckr_pat_" + X40[:27],
    "postman_key": "PMAK-" + "0123456789abcdef01234567-0123456789abcdef0123456789abcdef01",
    "doppler_token": "dp.pt." + X40,
    "linear_key": "lin_api_" + X40,
    "notion_token": "secret_" + X40 + "abc",
    "figma_token": "figd_" + X40,
    "airtable_token": "pat" + X40[:14] + "." + "0123456789abcdef" * 4,
    "grafana_token": "glsa_" + X40[:32] + "_0a1b2c3d",
    "new_relic_key": "NRAK-" + "ABCDEFGHIJ0123456789ABCDEFG",
    "sentry_token": "sntrys_" + X40,
    "openai_key": "sk-proj-" + X40,
    "anthropic_key": "sk-ant-api03-" + X40,
    "hugging_face_token": "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "replicate_token": "r8_" + X40[:37],
    "groq_key": "gsk_" + X40,
    "perplexity_key": "pplx-" + X40,
    "slack_token": "xoxb-" + "123456789012-" + X40[:24],
    "slack_app_token": "xapp-1-" + "A0123456789-1234567890123-" + "0123456789abcdef" * 4,
    "slack_webhook": "hooks.slack.com/services/" + "T01234567/B01234567/" + X40[:24],
    "discord_bot_token": "M" + X40[:23] + "." + X40[:6] + "." + X40[:27],
    "discord_webhook": "discord.com/api/webhooks/" + "123456789012345678/" + X40,
    "telegram_bot_token": "123456789:AA" + X40[:33],
    "twilio_key": "SK" + "0123456789abcdef" * 2,
    "sendgrid_key": "SG." + X40[:22] + "." + X40 + "abc",
    "mailgun_key": "key-" + "0123456789abcdef" * 2,
    "mailchimp_key": "0123456789abcdef" * 2 + "-us12",
    "stripe_key": "sk_live_" + X40[:24],
    "stripe_webhook_secret": "whsec_" + X40[:32],
    "square_token": "sq0atp-" + X40[:22],
    "braintree_token": "access_token$production$" + "0123456789abcdef$" + "0123456789abcdef" * 2,
    "shopify_token": "shpat_" + "0123456789abcdef" * 2,
    "jwt": "eyJhbGciOi" + "JIUzI1NiJ9.eyJzdWIiOiIxIn0." + X40,
    "private_key": "-----BEGIN RSA PRIVATE KEY-----\n" + (X40 + "\n") * 8,
    "private_key_encrypted": "DEK-Info: AES-128-CBC,0123456789ABCDEF\n\n" + (X40 + "\n") * 3,
    "age_secret_key": "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2,
    "url_password": "://dbuser:" + "hunter22@d",
    "authorization_header": "Authorization: Bearer " + X40,
    "assigned_secret": 'api_key = "' + X40,
    "assigned_password": "password: Tr0ub4dor&3",
    "email": "jane.doe+x@mail.example.co.uk",
    "phone_international": "+44 20 7946 0958",
    "phone_us": "(202) 555-0143",
    "phone_named": "office (020) 7946 0958x12",
    "ipv4": "192.0.2.41",
    "ipv6": "2001:db8:0:12::41",
    "mac_address": "00:00:5e:00:53:af",
    "payment_card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "us_aba_routing": "routing 021000021",
    "bitcoin_address": "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "ethereum_address": "0x" + "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "us_ssn": "536-90-4399",
    "us_ssn_plain": "social security 536904399",
    "us_itin": "ITIN 912-90-3456",
    "ca_sin": "SIN 123-456-782",
    "uk_nhs": "NHS 943 476 5870",
    "uk_nino": "AB 12 34 56 C",
    "de_tax_id": "Steuer-ID 36 574 261 809",
    "fr_nir": "2 95 10 99 126 111 93",
    "es_dni": "54362315K",
    "es_nie": "X-2482300-W",
    "it_codice_fiscale": "RCCMNL83S18D969H",
    "pl_pesel": "PESEL 44051401359",
    "nl_bsn": "BSN 111222333",
    "be_national_number": "rijksregisternummer 85.07.30-033.28",
    "se_personnummer": "880320-0016",
    "in_aadhaar": "2341 2341 2346",
    "in_aadhaar_plain": "Aadhaar 234123412346",
    "in_pan": "PAN ACUPA7085R",
    "br_cpf": "390.533.447-05",
    "br_cpf_plain": "CPF 39053344705",
    "br_cnpj": "16.727.230/0001-97",
    "au_tfn": "TFN 123 456 782",
    "au_abn": "ABN 83 914 571 673",
    "sg_nric": "S1234567D",
    "imei": "IMEI 49-015420-323751-8",
    "vin": "1M8GDM9AXKP042788",
    "tag_characters": "".join(chr(0xE0000 + ord(c)) for c in "hello there"),
    "variation_selectors": "\U000e0100\U000e0111\U000e0122\U000e0133",
    "bidi_override": "\u202e",
    "invisible_run": "\u200b\u200c\u200d\u2060\ufeff",
    "ignore_instructions": "Please ignore all previous instruction",
    "role_marker": "<|im_start|>",
    "instruction_tag": "<IMPORTANT>",
    "new_instructions": "new system prompt:",
    "hide_from_user": "Do not tell the user",
}
"""A text for each built-in rule, in which it finds one place that ends with the text."""

NEAR: dict[str, tuple[str, ...]] = {
    "aws_access_key_id": ("AKIA" + "IOSFODNN7EXAMPL", "AKIA" + "IOSFODNN7EXAMPLE9"),
    "aws_secret_access_key": (X40,),
    "bitcoin_address": ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",),
    "payment_card": ("4111 1111 1111 1112", "0.4111111111111111", "x4111111111111111"),
    "iban": ("DE89 3704 0044 0532 0130 01", "DE89 3704 0044 0532 0130"),
    "us_aba_routing": ("routing 021000022", "021000021"),
    "us_ssn": ("000-12-3456", "666-12-3456", "219-09-9999", "1-536-90-4399"),
    "uk_nhs": ("NHS 943 476 5871", "943 476 5870"),
    "de_tax_id": ("Steuer-ID 36 574 261 890",),
    "pl_pesel": ("PESEL 44051401358", "44051401359"),
    "nl_bsn": ("BSN 111252333",),
    "be_national_number": ("rijksregisternummer 85.07.30-033.29",),
    "se_personnummer": ("880320-0018", "881320-0016"),
    "in_aadhaar": ("2341 2341 2347",),
    "br_cpf": ("231.002.999-00",),
    "sg_nric": ("S1234567A",),
    "vin": ("1M8GDM9AYKP042788", "ABCDEFGHJKLMNPRST"),
    "ipv4": ("256.1.1.1", "1.2.3.4.5", "0.0.0.0", "v1.02.3.4"),  # noqa: S104 - text, no address to bind
    "ipv6": ("10:20:30", "12:34:56::", "::1"),
    "phone_us": ("123-456-7890", "211-555-0143", "2025550143"),
    "assigned_secret": ('api_key = "YOUR_API_KEY_HERE_PLEASE"', "secret_key = os.environ[SECRET]"),
    "assigned_password": (
        "password: required",
        "password = changeme1",
        "password: ${PASSWORD}",
        "password: https://www.example.com/a1",
    ),
    "url_password": ("http://example.com:8080/@me", "https://user:<password>@example.com"),
    "email": ("@decorator", "a@b", "pkg@1.2.3"),
    "tag_characters": ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",),
    "invisible_run": ("\U0001f469\u200d\U0001f469\u200d\U0001f467",),
}
"""Texts that look like a rule's and are not."""

HOSTILE: dict[str, str] = {
    "a…@": "a",
    "digits and spaces": "4111 ",
    "dots": "1.2.3.4.",
    "-----BEGIN": "-----BEGIN ",
    "base64": "QWxhZGRpbjpvcGVuIHNlc2FtZQ",
    "A.": "A.",
    "1-": "1-",
    "spaces": " ",
    "%25": "%25",
    "marks": "e\u0301\u0302",
    "://a:": "://a:b",
    "eyJhbGciOi": "eyJhbGciOiaaaaaaaa.",
    "zero width": "\u200b",
}
"""Units that are repeated to make a scanner slow."""

FILLERS = (
    "The quick brown fox. ", "naïve ", "x", ".", " ", "\n", "東京", "é", "4", "A", "-", "@", "%41",
    "\u200b", "e\u0301", "😀", "\x0b", "\u212a", "ſ", "\x00", "\ud800",
    "ａ", "&#65;", "= ", "://", "12",
)  # fmt: skip


def planted(rng: random.Random, parts: int = 12) -> str:
    """Write a text with values, halves of values and fillers that may touch them."""
    made = []
    for _ in range(rng.randrange(1, parts)):
        drawn = rng.random()
        made.append(rng.choice(("", " ", " ", "\n", ". ")))
        if drawn < 0.35:
            value = rng.choice(list(VALUES.values()))
            made.append(value if rng.random() < 0.7 else value[: rng.randrange(len(value))])
        elif drawn < 0.42:
            made.append(rng.choice(list(HOSTILE.values())) * rng.randrange(1, 30))
        else:
            made.append("".join(rng.choice(FILLERS) for _ in range(rng.randrange(1, 6))))
    return "".join(made)
