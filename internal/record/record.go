// Package record keeps a run in one file, reads it back, and says what differs between two.
//
// A record is a tar archive, compressed with Zstandard, of what the run was asked for, what it was told, what it
// decided, did and came to. It is written as the run goes: whatever kills the run leaves a record that ends early and
// can be read up to there. Secrets are taken out of each text before it is written, as out of a bug report.
package record

import (
	"path"
	"slices"
	"strings"
	"time"
)

// Version is the version of a record's form. It grows when a reader of the old form would go wrong.
const Version = 1

// Suffix ends the name of a record's file.
const Suffix = ".tar.zst"

// The members of a record, by their paths in it. Any may be absent: a run may end before it, or have none.
const (
	HeaderFile      = "record.json"      // a [Header]
	CauseFile       = "cause.json"       // a [cause.Cause] of a run that failed, as the program knew it that wrote it
	FailureFile     = "failure.json"     // a [cause.Failure] of a run that failed
	ReportFile      = "report.json"      // a [report.Report]
	RequestFile     = "request.json"     // a [target.Request] without the picture's bytes
	AnswersFile     = "answers.json"     // [target.Answers]: what this host, container engine and registries said
	ObstaclesFile   = "obstacles.json"   // the [target.Obstacle]s that came of them
	TargetFile      = "target.json"      // the [target.Target] that came of them, without the picture's bytes
	EnvironmentFile = "environment.txt"  // the variables that dalirun and a container engine's client read
	LockFile        = "dalirun.lock"     // what the run used, as a [lock.Lock]
	PictureFile     = "picture"          // the picture that was verified with, byte for byte
	StatisticsFile  = "statistics.json"  // Triton's, of each model
	GPUBeforeFile   = "gpu/before.xml"   // what nvidia-smi -q -x said before the steps
	GPUAfterFile    = "gpu/after.xml"    // and after them
	KernelFile      = "kernel.txt"       // lines of the kernel's log about GPUs and memory
	ModelFile       = "model/model.onnx" // with --record-model
	EventsFile      = "events.jsonl"     // all events but the lines of steps
	logsFolder      = "logs"             // STEP.log
	TensorsFolder   = "tensors"          // NAME.f32: little-endian FP32
	ConfigsFolder   = "model_repository" // MODEL/config.pbtxt
	journalFolder   = "journal"          // what came since the other members were last written whole
)

// LogFile is the path of the log of a step.
func LogFile(step string) string { return path.Join(logsFolder, step+".log") }

// Header says what a record is of.
type Header struct {
	Version int       `json:"version"`
	Program string    `json:"dalirun"` // version of the program
	Run     string    `json:"run,omitempty"`
	Command string    `json:"command"`
	Started time.Time `json:"started"`
	OS      string    `json:"os"`
	Arch    string    `json:"arch"`
	// Complete says that the run ended in order. The record of one that was killed ends early.
	Complete bool `json:"complete"`
	// LeftOut says, for people, what was too large to go in.
	LeftOut []string `json:"left_out,omitempty"`
}

// order returns names in the order in which a record has them: the verdict first, then what led to it.
func order(names []string) []string {
	first := []string{
		HeaderFile, CauseFile, FailureFile, ReportFile, RequestFile, AnswersFile, ObstaclesFile, TargetFile,
		EnvironmentFile, EventsFile,
	}
	rank := func(name string) int {
		if i := slices.Index(first, name); i >= 0 {
			return i
		}
		if name == ModelFile { // 100 MB that few look at
			return len(first) + 1
		}
		return len(first)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}
