// Package chart draws lines over an axis, as SVG that needs no other file and runs no script.
//
// A line is told from others by its colour and by the shape of its marks. Text is text. The colours are those of the
// scheme that a reader prefers, light or dark, and the picture has a background of its own, so that it is readable on
// any page. Who does not see it has a description with every point.
package chart

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/printable"
)

// A Chart is lines over one axis.
type Chart struct {
	Title  string
	X, Y   Axis
	Series []Series
}

// An Axis begins at 0. A logarithmic one does not.
type Axis struct {
	Label, Unit string
	Log         bool
	// Reach is a value that the axis has in any case.
	Reach float64
}

// A Series is one line.
type Series struct {
	Name string
	// Points are from left to right. The line is broken at one that has no place: one that is negative or not a number, or
	// 0 on a logarithmic axis.
	Points []Point
	// Reference says that nothing was measured of it: it is dashed and has no marks.
	Reference bool
}

// A Point is a value at a place of the axis X.
type Point struct{ X, Y float64 }

//go:embed chart.svg.tmpl
var markup string

// The picture's measures, in pixels.
const (
	width, left, right = 720, 64, 700
	plotHeight         = 200
	legendTop          = 42 // of the first line of the legend
	legendLine         = 20
	underLegend        = 34 // from the last line of the legend to the plot, with the label of axis Y
	underPlot          = 56 // with the labels of axis X
	inset              = 14 // from the edges of the plot to the first and the last point
	letter             = 7  // a letter of text, about
	longestName        = 40 // letters in a legend
)

// SVG draws charts, one below the other, as one picture of a title. On a page with several pictures each has an id of
// its own.
func SVG(id, title string, charts ...Chart) (template.HTML, error) {
	picture := struct {
		ID, Title, Description     string
		Width, Height, Left, Right int
		Panels                     []panel
	}{ID: id, Title: title, Width: width, Left: left, Right: right}
	var descriptions []string
	for _, c := range charts {
		p := c.draw()
		p.Top = picture.Height
		picture.Height += int(p.Bottom) + underPlot
		picture.Panels = append(picture.Panels, p)
		text := c.describe()
		if len(charts) > 1 {
			text = c.Title + ": " + text
		}
		descriptions = append(descriptions, text)
	}
	picture.Description = strings.Join(descriptions, " ")
	t, err := template.New("chart").Parse(markup)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, picture); err != nil {
		return "", err
	}
	return template.HTML(printable.Text(b.String())), nil //nolint:gosec // the template has escaped it
}

// panel is a chart as the template writes it.
type panel struct {
	Title          string
	Top            int
	Bottom         float64 // of the plot, below Top
	Legend, Lines  []line
	Rows, Columns  []label
	XLabel, YLabel label
}

type line struct {
	Name, Class, Mark, Path string
	Colour                  int
	X, Y                    int // in the legend
	Points                  []label
}

// label is a text and its place. At is the place of what it is about.
type label struct {
	Text     string
	X, Y, At float64
}

func (c Chart) draw() panel {
	p := panel{Title: c.Title}
	x, y := left, legendTop
	var xs, ys []float64
	for i, s := range c.Series {
		l := style(s, i)
		wide := 50 + letter*len([]rune(l.Name)) // with the sample of the line before it
		if x > left && x+wide > right {
			x, y = left, y+legendLine
		}
		l.X, l.Y = x, y
		x += wide
		p.Legend = append(p.Legend, l)
		for _, point := range s.Points {
			xs, ys = append(xs, point.X), append(ys, point.Y)
		}
	}
	top := float64(y + underLegend)
	p.Bottom = top + plotHeight
	across := newScale(c.X, xs, left+inset, right-inset, false)
	up := newScale(c.Y, ys, p.Bottom, top, true)
	p.YLabel = label{Text: c.Y.String(), Y: top - 12}
	p.XLabel = label{Text: c.X.String(), X: (left + right) / 2, Y: p.Bottom + 40}
	for _, v := range up.marks() {
		at := round(up.at(v))
		p.Rows = append(p.Rows, label{number(v), left - 8, at + 4, at})
	}
	p.Columns = columns(across, xs, p.Bottom)
	for i, s := range c.Series {
		p.Lines = append(p.Lines, c.trace(s, style(s, i), across, up))
	}
	return p
}

// trace gives a line its way, in as many pieces as it is broken into, and a label for each point.
func (c Chart) trace(s Series, l line, across, up scale) line {
	command := "M"
	for _, point := range s.Points {
		if !across.has(point.X) || !up.has(point.Y) {
			command = "M"
			continue
		}
		x, y := round(across.at(point.X)), round(up.at(point.Y))
		l.Path += fmt.Sprintf("%s%v %v", command, x, y)
		command = "L"
		if !s.Reference {
			text := fmt.Sprintf("%s: %s at %s", l.Name, c.Y.value(point.Y), c.X.value(point.X))
			l.Points = append(l.Points, label{Text: text, X: x, Y: y})
		}
	}
	return l
}

// columns are marks of axis X where there are points, since what lies between was not measured. Labels that would
// touch the one before are left out.
func columns(across scale, xs []float64, bottom float64) []label {
	slices.Sort(xs)
	var out []label
	free := math.Inf(-1)
	for _, v := range slices.Compact(xs) {
		if !across.has(v) {
			continue
		}
		mark := label{At: round(across.at(v)), Y: bottom + 20}
		text := number(v)
		if half := float64(letter*len(text)) / 2; mark.At-half > free {
			mark.Text, free = text, mark.At+half+letter
		}
		out = append(out, mark)
	}
	return out
}

// style is how a series looks. The numbers of colours and of shapes have no common divisor, so that many lines differ.
func style(s Series, i int) line {
	const colours = 6
	shapes := [...]string{
		"M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M-4-4h8v8h-8z", "M0-5l5 9h-10z", "M0-5.5l5.5 5.5l-5.5 5.5l-5.5-5.5z",
		"M0 5l5-9h-10z",
	}
	l := line{Name: s.Name, Class: "line", Colour: i % colours, Mark: shapes[i%len(shapes)]}
	if name := []rune(l.Name); len(name) > longestName {
		l.Name = string(name[:longestName-1]) + "…"
	}
	if s.Reference {
		l.Class, l.Mark, l.Colour = "line reference", "", colours-1
	}
	return l
}

// describe says in words all that is drawn.
func (c Chart) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s over %s.", c.Y, c.X)
	for _, s := range c.Series {
		var points []string
		for _, p := range s.Points {
			value := number(p.Y)
			if math.IsNaN(p.Y) || math.IsInf(p.Y, 0) {
				value = "nothing"
			}
			points = append(points, value+" at "+number(p.X))
		}
		fmt.Fprintf(&b, " %s: %s.", s.Name, strings.Join(points, ", "))
	}
	return b.String()
}

// String is "latency, ms (logarithmic)".
func (a Axis) String() string {
	text := a.Label
	if a.Unit != "" {
		text += ", " + a.Unit
	}
	if a.Log {
		text += " (logarithmic)"
	}
	return text
}

// value is "493 ms".
func (a Axis) value(v float64) string { return strings.TrimSpace(number(v) + " " + a.Unit) }

// number has four digits that count, and no exponent.
func number(v float64) string {
	const digits = 4
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64) // it is a number
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// round keeps tenths of a pixel.
func round(v float64) float64 { return math.Round(10*v) / 10 }
