"""prompts.py - texts that tokenizers disagree about, for tokens.py.

Invisible and ambiguous characters are written as escapes, so that an editor cannot change them.
U+0000 is left out: no C string and no command line can carry it.
"""

ORDINARY = [
    "", " ", "   ", "a", "A", "I", "x", "hello world", "Hello World", "HELLO, WORLD!",
    "a red ball rolling left", "A Red Ball Rolling Left", "aredballrollingleft",
    "an astronaut riding a horse on the moon, highly detailed, 4k",
    "masterpiece, best quality, 1girl, (blue eyes:1.2), [simple background]",
    "worst quality, low quality, blurry, jpeg artifacts",
    "the quick brown fox jumps over the lazy dog",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG",
    "internationalization antidisestablishmentarianism",
    "a photo of sks dog", "photo of <cat-toy> on a beach", "by greg rutkowski and alphonse mucha",
]

CONTRACTIONS = [
    "You should've done this", "don't", "DON'T", "Don'T", "it's", "IT'S", "It'S", "'s", "'S", "'sx",
    "x's", "we're they've I'm she'll he'd can't", "WE'RE THEY'VE I'M SHE'LL HE'D CAN'T",
    "rock'n'roll", "rock 'n' roll", "o'clock", "'tis 'twas", "'''s", "''t", "it''s", "it' s",
    "dogs' toys", "y'all'd've", "it\u2019s", "don\u2018t", "it\u02bcs", "it\u00b4s", "it`s",
    "'m'm'm", "'re'", "'reading", "'vex", "'llama", "'dog", "a'sb'tc'red've",
]

NUMBERS = [
    "0", "7", "42", "2023", "1,234,567.89", "3.14159", "1e-5", "0x1F600", "1st 2nd 3rd 4th",
    "4k 8k 16k", "512x512", "16:9", "24/7", "50%", "-1", "+1", "a1b2c3", "1a2b3c", "x2", "2x",
    "\u00bd \u00bc \u00be \u2153 \u215e", "x\u00b2 y\u00b3 z\u00b9 n\u2070",
    "\u2160\u2163\u2168 \u2170\u2171",
    "\u2460\u2461\u2469 \u2474", "\u2080\u2081\u2082", "\u0661\u0662\u0663", "\u0967\u0968\u0969",
    "\u0e51\u0e52\u0e53",
    "\u4e00\u4e8c\u4e09", "\u3007", "\uff11\uff12\uff13", "\U0001d7d8\U0001d7d9",
    "H\u2082O CO\u2082", "m\u00b2", "10\u207b\u00b3",
]

PUNCTUATION = [
    "!", "!!!", "?!?!", "...", "\u2026", ". . .", "a.b.c", "a...b", "(a)", "((a))", "[a] {b} <c>",
    "a,b,c", "a , b , c", "--", "\u2014", "\u2013", "a-b", "a - b", "a--b", "a_b", "_a_",
    "__init__", "_",
    "snake_case_name", "#tag", "@user", "user@example.org", "https-like a://b.c/d?e=f&g=h#i",
    "$5 \u20ac5 \u00a35 \u00a55", "100% \u2030", "~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./",
    "\\n \\t \\\\",
    "\"quoted\"", "\u201cquoted\u201d \u2018single\u2019 \u00abguillemets\u00bb \u201elow\u201c",
    "a\u00b7b \u2022 c", "\u00a9 \u00ae \u2122 \u00b0 \u00a7 \u00b6",
    "\u00d7 \u00f7 \u00b1 \u2260 \u2264 \u2265 \u221e \u2192 \u2190",
    "\u2588\u2588\u2591\u2591 \u25a0 \u25cf", "\u0964 \u0589 \u061f \u060c",
    "\u3001\u3002\u300c\u300d\u30fb",
    "a!b?c;d:e", "!a", "a!", "!1!", "1!2", ":)", ":-( ;-) <3 ^_^", "&amp; &lt; &#39; &eacute;",
    "<b>bold</b> &nbsp;", "\u00bfqu\u00e9? \u00a1s\u00ed!",
]

SPACES = [
    " a", "a ", "  a  b  ", "a\tb", "a\nb", "a\r\nb", "a\vb\fc", "\t\n\r", "a\u00a0b", "\u00a0",
    "a\u2003b",
    "a\u2009\u200ab", "a\u3000b", "\u3000", "a\u0085b", "a\u1680b", "a\u2028b\u2029c",
    "a\u202fb\u205fc", "a\u200bb", "\u200b",
    "a\u200cb\u200dc", "a\u2060b", "\ufeffa", "a\ufeffb", "a\u00adb", "soft\u00adhyphen",
    "a\u180eb", "a\u200eb\u200fc",
    "a\u202ab\u202ec", "a \u200b b", "  \u00a0 \u3000 a \u2003\t b  ",
]

CONTROLS = [
    "a\u0001b", "\u0001", "a\u0007b", "a\u0008b", "a\u001bb", "a\u001cb", "a\u001db\u001ec\u001fd",
    "a\u007fb", "a\u0080b",
    "a\u009fb", "\u0001\u0002\u0003 x", "a\u0084\u0086b",
]

LETTERS = [
    "r\u00e9sum\u00e9", "re\u0301sume\u0301", "R\u00c9SUM\u00c9", "RE\u0301SUME\u0301",
    "na\u00efve caf\u00e9 cr\u00e8me br\u00fbl\u00e9e",
    "nai\u0308ve cafe\u0301", "\u00c5ngstr\u00f6m", "A\u030angstro\u0308m", "\u212bngstr\u00f6m",
    "\u00c0\u00c9\u00ce\u00d5\u00dc", "\u00f1 n\u0303 \u00d1 N\u0303",
    "\u1ec7 e\u0323\u0302 e\u0302\u0323 \u00ea\u0323 \u1eb9\u0302", "q\u0307\u0323 q\u0323\u0307",
    "a\u0301\u0301\u0301", "x\u0301", "\u0301x", " \u0301", "\u0301",
    "Z\u0351\u036b\u0343a\u0334\u0313l\u030dgo\u0338", "\u00df STRASSE Stra\u00dfe STRA\u1e9eE",
    "\u0130stanbul I\u0131i\u0130", "I\u0307", "i\u0307",
    "\u03a3\u0391\u03a3 \u039f\u0394\u039f\u03a3 \u03c3\u03c2",
    "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3",
    "\u0386\u03bb\u03c6\u03b1 \u1f05\u03bb\u03c6\u03b1 \u1fbc", "\u03ca\u0301 \u0390 \u1fd3",
    "\u041c\u043e\u0441\u043a\u0432\u0430 \u041a\u0420\u0410\u0421\u041d\u042b\u0419",
    "\u0439 \u0438\u0306 \u0451 \u0435\u0308",
    "\ufb01sh \ufb02y \ufb00 \u0133 \u01c6 \u01c5 \u01c4",
    "\uff21\uff22\uff23 \uff41\uff42\uff43\uff01",
    "\u212a \u2126 \u00b5 \u03bc", "\u0149 \u01f0 \u1e96", "\u1d49 \u1d2c \u02b0\u02b7",
    "\u24b6\u24b7 \u24d0\u24d1", "\U0001d400\U0001d41a \U0001d49c \U0001d504", "\u00aa \u00ba",
    "\u0132 \u01c8 \u01cb", "\u13a0\u13a1 \uab70", "\u10d0 \u1c90 \u10a0", "\U00010400 \U00010428",
    "\ua64a \u1c88", "\u2c2f \u2c5f", "\u1e9b\u0323 \u0344",
    "\u0958 \u0915\u093c \u09dc", "\u2adc \U0001d15e", "\uf900 \u8c48 \U0002f800",
]

SCRIPTS = [
    "\u4e00\u53ea\u7ea2\u8272\u7684\u7403", "\u7403 \u7403\u7403 a\u7403b",
    "\U00020000\U0002a6d6 \u3400", "\u8d64\u3044\u30dc\u30fc\u30eb\u304c\u8ee2\u304c\u308b",
    "\u304c \u304b\u3099 \u30d1 \u30cf\u309a", "\uff8a\uff9f\uff98", "\ube68\uac04 \uacf5",
    "\u1107\u1161\u11af \ubc1c", "\u1100\u1161 \uac00 \u3131\u314f", "\u1100\u1161\u11a8\u11a8",
    "\u0643\u0631\u0629 \u062d\u0645\u0631\u0627\u0621",
    "\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f", "\ufefb \ufdf2", "\u0622 \u0627\u0653",
    "\u05db\u05d3\u05d5\u05e8 \u05d0\u05d3\u05d5\u05dd",
    "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
    "\u0932\u093e\u0932 \u0917\u0947\u0902\u0926", "\u0915\u094d\u0937 \u0928\u093f",
    "\u0ba8\u0bbf \u0b95\u0bcd\u0bb7\u0bcb",
    "\u0e25\u0e39\u0e01\u0e1a\u0e2d\u0e25\u0e2a\u0e35\u0e41\u0e14\u0e07",
    "\u0e01\u0e33 \u0e01\u0e4d\u0e32",
    "\u1ea3nh \u0111\u1eb9p qu\u1ea3 b\u00f3ng", "\u1019\u103c\u1014\u103a\u1019\u102c",
    "\u1780\u17d2\u1798\u17c2\u179a", "\u0f40\u0f7c\u0f0b", "\u12a0\u121b\u122d\u129b",
    "\u16a0\u16a2\u16a6", "\U00010330\U00010331", "\U0001f130\U0001f170",
]

EMOJI = [
    "\U0001f600", "\U0001f436\U0001f431", "a\U0001f436b", "\u2764\ufe0f \u2764",
    "\u2600\ufe0f\u2601", "\U0001f44d\U0001f3fd \U0001f44d",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\U0001f1e9",
    "1\ufe0f\u20e3 #\ufe0f\u20e3", "\U0001f9d1\U0001f3ff\u200d\U0001f680 in space",
    "\U0001f636\u200d\U0001f32b\ufe0f",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "\u2b50\u2b50\u2b50",
    "\u231a\ufe0e",
]

STRANGE = [
    "\ue000", "a\ue000b", "\U000f0000", "\U0010ffff", "a\U0010ffffb", "\ufffd",
    "a\ufffdb \ufffd\ufffd", "\ufffe \uffff", "\ufdd0",
    "\u0378", "\U0001fffe", "\u034f\u115f\u3164", "\ufff9a\ufffab\ufffb", "\u2800",
    "\u00c3\u00a9 \u00e2\u20ac\u2122 mojibake",
]

SPECIAL = [
    "<|startoftext|>", "<|endoftext|>", "<|startoftext|>a", "a<|endoftext|>", "a<|endoftext|>b",
    "a <|endoftext|> b", "A<|endoftext|>B", "<|endoftext|><|endoftext|>",
    "<|endoftext|> <|endoftext|>",
    "<|startoftext|><|endoftext|>", "<|STARTOFTEXT|> a", "x<|EndOfText|>y", "<|endoftext|",
    "<endoftext>",
    "<|endoftext |>", "<| endoftext |>", "<<|endoftext|>>", "!!<|endoftext|>!!",
    "1<|startoftext|>2",
    "<|startoftext|>the cat's<|endoftext|>'s", "\u00e9<|endoftext|>\u0301", "<|endoftext|>\u0301",
    "<|endo\u200bftext|>",
    "<|pad|> <pad> [PAD] <unk>", "</w>", "a</w>", "a</w> b", "\u0120a \u00c4", "<|endoftext|>" * 80,
]

LONG = [
    "a " * 74 + "b", "a " * 75 + "b", "a " * 76 + "b", "a " * 77 + "b", "a " * 200, "1" * 75,
    "1" * 76, "!" * 300,
    "a! " * 40, "\u7403 " * 30, "\U0001f600 " * 40, "supercalifragilisticexpialidocious" * 6,
    "z" * 500,
    "ab" * 120, "the cat " * 37 + "the", "the cat " * 37 + "the dog", "the cat " * 38,
    "\u00e9" * 90, "x" * 5000,
    "a red ball, " * 25, "word" + "\u0301" * 100,
]


def all_prompts():
    """Every prompt once, in the order above."""
    groups = (ORDINARY, CONTRACTIONS, NUMBERS, PUNCTUATION, SPACES, CONTROLS, LETTERS, SCRIPTS,
              EMOJI, STRANGE, SPECIAL, LONG)
    prompts = [p for group in groups for p in group]
    assert len(set(prompts)) == len(prompts), \
        [p for p in set(prompts) if prompts.count(p) > 1]
    return prompts
