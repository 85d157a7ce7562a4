from shortener.formats import slug


def test_a_slug_holds_letters_and_digits_and_is_long_enough():
    assert slug("Read me, 42") == "readme42"
    assert slug("a") == "a000"
