-- What an endpoint answered, with the escapes of JSON undone (see 0030), for searches. It is made when somebody asks.
ALTER TABLE attempts
    ADD COLUMN IF NOT EXISTS response_body_text String
        ALIAS if(position(response_body, '\\') = 0, response_body, JSONExtractString(concat('"', replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceAll(replaceAll(replaceAll(replaceAll(replaceAll(replaceAll(replaceRegexpAll(
            toValidUTF8(response_body),
            '[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f]', ' '),
            '\n', '\\n'),
            '\r', '\\r'),
            '\t', '\\t'),
            '\\\\', '\x01005c'),
            '\\"', '\x010022'),
            '"', '\x010022'),
            '\\\\u([0-9A-Fa-f]{4})', '\x01\\1'),
            '\\\\([^bfnrt/]|$)', '\x01005c\\1'),
            '(?i)\\x01(d[89ab]..)\\x01(d[c-f]..)', '\x02\\1\x02\\2'),
            '(?i)\\x01d[89a-f]..', '\x01fffd'),
            '[\\x01\\x02]', '\\\\u'),
        '"')))
        AFTER response_body
