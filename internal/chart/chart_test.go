package chart_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/chart"
)

// element is one of a picture, with those inside it.
type element struct {
	XMLName  xml.Name
	Class    string    `xml:"class,attr"`
	ID       string    `xml:"id,attr"`
	Labelled string    `xml:"aria-labelledby,attr"`
	Role     string    `xml:"role,attr"`
	X        float64   `xml:"x,attr"`
	Y        float64   `xml:"y,attr"`
	D        string    `xml:"d,attr"`
	Move     string    `xml:"transform,attr"`
	Text     string    `xml:",chardata"`
	Inside   []element `xml:",any"`
}

func (e element) all(is func(element) bool) []element {
	var out []element
	for _, child := range e.Inside {
		if is(child) {
			out = append(out, child)
		}
		out = append(out, child.all(is)...)
	}
	return out
}

func (e element) class(name string) []element {
	return e.all(func(e element) bool { return e.Class == name })
}

func texts(all []element) []string {
	var out []string
	for _, e := range all {
		out = append(out, e.Text)
	}
	return out
}

func draw(t *testing.T, charts ...chart.Chart) element {
	t.Helper()
	picture, err := chart.SVG("one", "All of it", charts...)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(picture))
}

func parse(t *testing.T, picture string) element {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(strings.TrimSpace(picture)))
	var root element
	if err := d.Decode(&root); err != nil {
		t.Fatalf("%v:\n%s", err, picture)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("there is more than one element: %v", err)
	}
	return root
}

// place is where a mark is.
func place(t *testing.T, mark element) (x, y float64) {
	t.Helper()
	if _, err := fmt.Sscanf(mark.Move, "translate(%g %g)", &x, &y); err != nil {
		t.Fatalf("%q: %v", mark.Move, err)
	}
	return x, y
}

func points(values ...float64) []chart.Point {
	var out []chart.Point
	for i, v := range values {
		out = append(out, chart.Point{X: math.Pow(2, float64(i)), Y: v})
	}
	return out
}

// pointsOf are the marks in the plot; those of the legend have no title.
func pointsOf(e element) []element {
	return e.all(func(e element) bool { return e.Class == "mark" && len(e.Inside) == 1 })
}

// Who cannot see a picture is told its title and each of its points.
func TestDescription(t *testing.T) {
	t.Parallel()
	c := chart.Chart{
		Title: "Latency", X: chart.Axis{Label: "at a time", Log: true}, Y: chart.Axis{Label: "latency", Unit: "ms"},
		Series: []chart.Series{{Name: "p50", Points: points(58.14, 1070.4)}, {Name: "p99", Points: points(493, math.NaN())}},
	}
	const want = "latency, ms over at a time (logarithmic). p50: 58.14 at 1, 1070 at 2. p99: 493 at 1, nothing at 2."
	one := draw(t, c)
	about := texts(one.Inside[:2])
	if diff := cmp.Diff([]string{"All of it", want}, about); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if one.Role != "img" || one.Labelled != one.Inside[0].ID+" "+one.Inside[1].ID {
		t.Errorf("role %q, labelled by %q", one.Role, one.Labelled)
	}
	hints := texts(one.all(func(e element) bool { return e.XMLName.Local == "title" }))
	if diff := cmp.Diff([]string{"All of it", "p50: 58.14 ms at 1", "p50: 1070 ms at 2", "p99: 493 ms at 1"}, hints); diff != "" {
		t.Errorf("titles -want +got:\n%s", diff)
	}
	if both := draw(t, c, c).Inside[1].Text; both != "Latency: "+want+" Latency: "+want {
		t.Errorf("of two charts: %q", both)
	}
}

// A name is text, whatever it has, and a long one is cut where it would take the picture's width.
func TestNames(t *testing.T) {
	t.Parallel()
	const evil = "</desc><script>alert('x')</script> & \"q\" ]]> \x1b[31m\x00 {{.}} \u202e模型"
	long := strings.Repeat("long", 20)
	c := chart.Chart{Title: evil, X: chart.Axis{Label: evil, Unit: evil}, Y: chart.Axis{Label: evil, Unit: evil}}
	for _, name := range []string{evil, long, "three", "four"} {
		c.Series = append(c.Series, chart.Series{Name: name, Points: points(1, 2)})
	}
	picture, err := chart.SVG("one", evil, c)
	if err != nil {
		t.Fatal(err)
	}
	root := parse(t, string(picture))
	if strings.ContainsAny(string(picture), "\x1b\x00\u202e") || len(root.all(func(e element) bool { return e.XMLName.Local == "script" })) > 0 {
		t.Errorf("a name is obeyed:\n%s", picture)
	}
	const shown = "</desc><script>alert('x')</script> & \"q\" ]]>"
	if got := root.Inside[0].Text; !strings.HasPrefix(got, shown) {
		t.Errorf("the title is %q", got)
	}
	if desc := root.Inside[1].Text; !strings.Contains(desc, long) {
		t.Errorf("the description has no whole name: %q", desc)
	}
	var rows []string
	for _, e := range root.class("name") {
		if n := len([]rune(e.Text)); n > 40 {
			t.Errorf("%d letters in the legend: %q", n, e.Text)
		}
	}
	for _, g := range root.all(func(e element) bool { return len(e.class("name")) == 1 && len(e.Inside) <= 3 }) {
		_, y := place(t, g)
		rows = append(rows, fmt.Sprint(y))
	}
	if len(slices.Compact(rows)) < 2 {
		t.Errorf("the legend is one line: %v", rows)
	}
}

// What is more is higher, also where axes are logarithmic; there a factor is a distance.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for name, isLog := range map[string]bool{"linear": false, "logarithmic": true} {
		root := draw(t, chart.Chart{
			X: chart.Axis{Log: isLog}, Y: chart.Axis{Log: isLog}, Series: []chart.Series{{Name: "a", Points: points(3, 30, 300)}},
		})
		var xs, ys []float64
		for _, mark := range pointsOf(root) {
			x, y := place(t, mark)
			xs, ys = append(xs, x), append(ys, y)
		}
		if len(xs) != 3 || !slices.IsSorted(xs) || !(ys[0] > ys[1] && ys[1] > ys[2]) {
			t.Fatalf("%s: %v, %v", name, xs, ys)
		}
		same := func(v []float64) bool { return math.Abs((v[1]-v[0])-(v[2]-v[1])) < 0.3 }
		if same(xs) != isLog || same(ys) != isLog {
			t.Errorf("%s: %v, %v", name, xs, ys)
		}
	}
}

// A point without a place breaks the line: nothing is drawn over what was not measured.
func TestGap(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		isLog  bool
		middle float64
		pieces int
		marks  int
	}{
		"not a number":     {false, math.NaN(), 2, 4},
		"infinite":         {false, math.Inf(1), 2, 4},
		"negative":         {false, -1, 2, 4},
		"0":                {false, 0, 1, 5},
		"0 logarithmic":    {true, 0, 2, 4},
		"beyond any":       {true, 1e300, 2, 4},
		"below any, log":   {true, 1e-300, 2, 4},
		"below any, not":   {false, 1e-300, 1, 5},
		"a number like it": {true, 4, 1, 5},
	} {
		root := draw(t, chart.Chart{Y: chart.Axis{Log: c.isLog}, Series: []chart.Series{{Name: "a", Points: points(1, 2, c.middle, 3, 5)}}})
		lines := root.class("line")
		path := lines[len(lines)-1].D
		if pieces, marks := strings.Count(path, "M"), len(pointsOf(root)); pieces != c.pieces || marks != c.marks || strings.Contains(path, "N") {
			t.Errorf("%s: %d pieces and %d marks, want %d and %d: %s", name, pieces, marks, c.pieces, c.marks, path)
		}
	}
}

// A reference is drawn, and nothing of it was measured.
func TestReference(t *testing.T) {
	t.Parallel()
	root := draw(t, chart.Chart{Series: []chart.Series{{Name: "asked", Points: points(1, 2), Reference: true}}})
	if lines, marks := root.class("line reference"), root.class("mark"); len(lines) != 2 || lines[1].D == "" || len(marks) != 0 {
		t.Errorf("lines %+v, marks %+v", lines, marks)
	}
}

// Axis Y has round numbers, as many as can be read, with all values between the first and the last.
func TestMarks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		axis   chart.Axis
		values []float64
		want   []string
	}{
		"from 0":          {chart.Axis{}, []float64{10.6, 7.4}, []string{"0", "2", "4", "6", "8", "10", "12"}},
		"thousands":       {chart.Axis{}, []float64{100, 7200}, []string{"0", "1000", "2000", "3000", "4000", "5000", "6000", "7000", "8000"}},
		"small":           {chart.Axis{}, []float64{0.003}, []string{"0", "0.0005", "0.001", "0.0015", "0.002", "0.0025", "0.003"}},
		"reach":           {chart.Axis{Reach: 100}, []float64{3}, []string{"0", "20", "40", "60", "80", "100"}},
		"decades":         {chart.Axis{Log: true}, []float64{2.1, 165}, []string{"2", "5", "10", "20", "50", "100", "200"}},
		"most decades":    {chart.Axis{Log: true}, []float64{1.1, 190}, []string{"1", "2", "5", "10", "20", "50", "100", "200"}},
		"one too many":    {chart.Axis{Log: true}, []float64{1.1, 490}, []string{"1", "10", "100"}},
		"many decades":    {chart.Axis{Log: true}, []float64{0.02, 90_000}, []string{"0.1", "1", "10", "100", "1000", "10000", "100000"}},
		"one, log":        {chart.Axis{Log: true}, []float64{20}, []string{"20"}},
		"none":            {chart.Axis{}, nil, []string{"0", "2", "4", "6", "8", "10"}},
		"none but zeroes": {chart.Axis{}, []float64{0, 0}, []string{"0", "2", "4", "6", "8", "10"}},
		"none, log":       {chart.Axis{Log: true}, nil, []string{"1", "2", "5", "10"}},
	} {
		got := texts(draw(t, chart.Chart{Y: c.axis, Series: []chart.Series{{Name: "a", Points: points(c.values...)}}}).class("y"))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Axis X has the places where something was measured, and labels that do not touch.
func TestColumns(t *testing.T) {
	t.Parallel()
	few := draw(t, chart.Chart{X: chart.Axis{Label: "x", Log: true}, Series: []chart.Series{{Points: points(1, 2, 3)}, {Points: points(4, 5, 6, 7)}}})
	if diff := cmp.Diff([]string{"1", "2", "4", "8", "x (logarithmic)"}, texts(few.class("x"))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	none := draw(t, chart.Chart{X: chart.Axis{Label: "x", Log: true}, Series: []chart.Series{{Points: []chart.Point{{X: 0, Y: 1}, {X: 3, Y: 1}}}}})
	if got := texts(none.class("x")); len(got) != 2 || got[0] != "3" || len(pointsOf(none)) != 1 {
		t.Errorf("of 0 on a logarithmic axis: %q", got)
	}
	var many []chart.Point
	for i := range 200 {
		many = append(many, chart.Point{X: float64(i), Y: 1})
	}
	end := 0.0
	labels := draw(t, chart.Chart{Series: []chart.Series{{Points: many}}}).class("x")
	for _, l := range labels[:len(labels)-1] { // the last one is the axis's
		if _, err := strconv.Atoi(l.Text); err != nil || l.X-3.5*float64(len(l.Text)) < end {
			t.Errorf("%q at %v touches what ends at %v, %v", l.Text, l.X, end, err)
		}
		end = l.X + 3.5*float64(len(l.Text))
	}
	if len(labels) < 10 {
		t.Errorf("%d labels alone", len(labels))
	}
}

// Each of many lines looks different.
func TestStyles(t *testing.T) {
	t.Parallel()
	var c chart.Chart
	const lines = 20
	for i := range lines {
		c.Series = append(c.Series, chart.Series{Name: strconv.Itoa(i), Points: points(1)})
	}
	seen := map[string]bool{}
	for _, g := range draw(t, c).all(func(e element) bool { return len(pointsOf(e)) == 1 && strings.HasPrefix(e.Class, "c") }) {
		seen[g.Class+pointsOf(g)[0].D] = true
	}
	if len(seen) != lines {
		t.Errorf("%d styles of %d lines", len(seen), lines)
	}
}
