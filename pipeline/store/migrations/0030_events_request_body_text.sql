-- Bodies are JSON: "M\u00fcller" says Müller, "a\/b" says a/b. People look for what a body says; its bytes stay as they were published.
--
-- request_body_strings: those strings of a body that say something else than lowerUTF8(request_body) shows, because of escapes, case
-- folding (a final sigma, a sharp s) or combining characters (é in two code points): escapes undone, folded, composed (NFC), and between
-- them U+FDD0, which is no character. Empty where there are none: ASCII without a backslash is not even looked at. When only escapes
-- matter, only strings with escapes are in it. A second small index, and not another one over all of the text: that one takes 83% of an
-- insert's time already, and doubled the disk of bodies from PHP and Python (measured: docs/search.md).
-- request_body_text: the body with all escapes undone, quotes too. It is made when somebody asks (ALIAS). An escape of half a surrogate
-- pair becomes U+FFFD.
--
-- How escapes are undone: each becomes \uXXXX, quotes and line breaks too, and ClickHouse's JSON parser reads the text as one string.
-- \x01 stands for a valid \u meanwhile, \x02 for one of a surrogate pair; JSON has no control characters in strings.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS request_body_strings String
        MATERIALIZED if(
        position(request_body, '\\') = 0 AND length(request_body) = lengthUTF8(request_body),
        '',
        normalizeUTF8NFC(caseFoldUTF8(JSONExtractString(concat('"', replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceAll(replaceAll(replaceAll(replaceAll(replaceAll(replaceAll(replaceRegexpAll(
            toValidUTF8(
                if(
                    normalizeUTF8NFC(caseFoldUTF8(arrayStringConcat(extractAll(request_body, '"([\\x00-!#-\\[\\]-\\x7f]*(?:\\\\.|[^\\x00-\\x7f])(?:\\\\.|[^"\\\\])*)"'), '\\ufdd0')))
                        = lowerUTF8(arrayStringConcat(extractAll(request_body, '"([\\x00-!#-\\[\\]-\\x7f]*(?:\\\\.|[^\\x00-\\x7f])(?:\\\\.|[^"\\\\])*)"'), '\\ufdd0')),
                    arrayStringConcat(extractAll(request_body, '"([^"\\\\]*\\\\.(?:\\\\.|[^"\\\\])*)"'), '\\ufdd0'),
                    arrayStringConcat(extractAll(request_body, '"([\\x00-!#-\\[\\]-\\x7f]*(?:\\\\.|[^\\x00-\\x7f])(?:\\\\.|[^"\\\\])*)"'), '\\ufdd0')
                )),
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
        '"')))))
        CODEC(ZSTD(3)) AFTER request_body,
    ADD COLUMN IF NOT EXISTS request_body_text String
        ALIAS if(position(request_body, '\\') = 0, request_body, JSONExtractString(concat('"', replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceAll(replaceAll(replaceAll(replaceAll(replaceAll(replaceAll(replaceRegexpAll(
            toValidUTF8(request_body),
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
        AFTER request_body_strings,
    ADD INDEX IF NOT EXISTS request_body_strings_ngrams request_body_strings TYPE text(tokenizer = ngrams(3))
