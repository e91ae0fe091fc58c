from retrieval.report.markup import Markup, element


def test_text_is_escaped_and_markup_is_not():
    inner = element("b", """<i> & "it's" """)
    assert inner == "<b>&lt;i&gt; &amp; &quot;it&#x27;s&quot; </b>"
    assert element("span", inner, "<", 3) == f"<span>{inner}&lt;3</span>"


def test_attributes():
    written = element("a", class_="x", stroke_width=1.25, x=2.0, y=1.23456, title='"<&', open=True, id=None, role=False)
    assert written == '<a class="x" stroke-width="1.25" x="2" y="1.23" title="&quot;&lt;&amp;" open></a>'
    assert element("meta", name="a") == '<meta name="a">'


def test_contents_are_flattened_and_none_is_nothing():
    assert element("span", ["a", None, [Markup("<br>"), ("b",)]], None) == "<span>a<br>b</span>"
