package release

// The places that most rows share.
const (
	// wheel is where the server image has DALI's Python since 24.05: triton-inference-server/server, build.py on r24.05, which
	// also puts it on the image's own PYTHONPATH.
	wheel = "/opt/tritonserver/backends/dali/wheel/dali"
	// conda is the Python of DALI's environment in the server image from 22.07 to 24.03. The backend calls CONDA_ENVIRONMENT/bin/python3
	// (dali_backend, src/model_provider/model_provider.h); this folder is what a third party's build log of 22.08 installs it to, and was not
	// seen in an image: unconfirmed.
	conda = "/opt/tritonserver/backends/dali/conda/envs/dalienv/bin/python3"
)

// complete sets what follows from a row's other figures.
func (r Release) complete() Release {
	r.MinDriver = minDriver(known(r.CUDA))

	// Server images have trtexec in /usr/src/tensorrt/bin; those from 26.10 on, which have another base, were not looked at. 21.07 builds
	// where the tutorial did.
	r.EngineIn = ServerImage
	if r.Tag == "21.07" {
		r.EngineIn = ExporterImage
	}
	switch {
	case r.Tag < "22.07", r.Tag == "24.04":
		// No Python of DALI in the server image: it came with autoserialization (dali_backend #125), and 24.04 lost it (#244).
		r.DALIIn, r.DALIInterpreter = ExporterImage, "python3"
	case r.Tag < "24.04":
		r.DALIIn, r.DALIInterpreter = ServerImage, conda
		r.Unconfirmed |= DALIPython
	default:
		r.DALIIn, r.DALIInterpreter, r.DALIPython = ServerImage, "python3", wheel
	}
	return r
}

// minDriver is the driver branch under which CUDA's minor version compatibility ends; see [Release.MinDriver]. It is 0 for a CUDA that is
// not known and the newest known one for a CUDA that is newer than all that are known.
func minDriver(cuda Version) int {
	switch {
	case cuda.IsZero():
		return 0
	case cuda.Major <= 11:
		return 470
	case cuda.Major == 12:
		return 525
	default:
		return 580
	}
}

// table holds the rows as their sources have them. Sources of a row: NVIDIA's Triton release notes of the tag for CUDA, NotesDriver, DataCenterDrivers
// and MinCompute (6.0 up to 24.06, 7.5 from 25.03 on; see below for those between); build.py on the release branch for Triton and ORT, from 26.09 on the
// release's page; DALI_VERSION on the release branch for DALI; framework release notes, image histories and public package lists for TensorRT;
// docs/introduction/compatibility.md for CUDA from 24.07 on, and for TensorRT of 25.01. Some differ from their notes:
//   - 24.05 and 24.06 allow 6.0, but TensorRT 10.1's support matrix starts at 7.0 (10.0's was not read). So do 24.07 and 24.10; those between
//     24.07 and 25.02 were not read otherwise.
//   - notes of CUDA 13 releases that name branch 575 are not followed: CUDA 13 starts at 580. CUDA 13.4 was seen to run on it.
//
// Indirect are: DALI of 21.09, 22.03 and 22.05 and TensorRT, CUDA and NotesDriver of 22.03, from NVIDIA's notes of the MXNet image (of 24.05 these say
// DALI 1.37.1, where the server's backend has 1.36); TensorRT of 26.02, from a change to NVIDIA's Model-Optimizer that names the tensorrt:26.02 image; TensorRT of 26.04
// (engines built with 10.16.1), of 26.08 (two projects) and 26.09 (one; 11.3 was the newest published then), and DALI of 26.08, from projects
// that use the images; CUDA of 26.08, of which NVIDIA's pages differ, from a change to the server that says what the image reports.
//
// Unconfirmed are, among others: TensorRT of 22.06 and 26.05, inferred from build.py, which has them on the base of the release before. It is
// no proof: by build.py 26.06 stands on 26.05's base too, and it has TensorRT 11. TensorRT of 25.02 and 25.06, inferred from
// compatibility.md's rows of images with TensorRT-LLM, whose CUDA (12.9.1.010 of 25.06) is not taken: the plain images' own notes have theirs.
// DALI of 26.07, of which it is known that its notes fit. Triton of 21.09, the number between those around it. TensorRT of 26.10: 11.3 is the first with CUDA 13.4, and 11.4 was out. Of 26.11 its page says Triton alone.
func table() []Release {
	r4xx := []string{"418.40", "440.33", "450.51", "460.27", "470.57"}
	r5xx := []string{"450.51", "470.57", "510.47", "515.65", "525.85", "530.30"}
	r545 := []string{"470.57", "525.85", "535.86", "545.23"}
	return []Release{
		{Tag: "21.07", Triton: "2.12", TensorRT: "8.0.1.6", CUDA: "11.4.0", NotesDriver: 470, ORT: "1.8.0", MinCompute: "6.0"},
		{Tag: "21.08", Triton: "2.13", TensorRT: "8.0.1.6", CUDA: "11.4.1", NotesDriver: 470, MinCompute: "6.0"},
		{Tag: "21.09", Triton: "2.14", TensorRT: "8.0.3", CUDA: "11.4.2", NotesDriver: 470, DataCenterDrivers: r4xx[:4], DALI: "1.5.0", MinCompute: "6.0", Indirect: DALI, Unconfirmed: Triton},
		{Tag: "21.10", Triton: "2.15", TensorRT: "8.0.3.4", CUDA: "11.4.2", NotesDriver: 470, DALI: "1.6", MinCompute: "6.0", Unconfirmed: DALI},
		{Tag: "21.11", Triton: "2.16", TensorRT: "8.0.3.4", CUDA: "11.5.0", NotesDriver: 495, MinCompute: "6.0"},
		{Tag: "21.12", Triton: "2.17", TensorRT: "8.2.1.8", CUDA: "11.5.0", NotesDriver: 495, DataCenterDrivers: r4xx, DALI: "1.8.0", MinCompute: "6.0", Unconfirmed: DALI},
		{Tag: "22.01", Triton: "2.18", TensorRT: "8.2.2", CUDA: "11.6.0", NotesDriver: 510, DataCenterDrivers: r4xx, MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "22.02", Triton: "2.19", TensorRT: "8.2.3", CUDA: "11.6.0", NotesDriver: 510, MinCompute: "6.0"},
		{Tag: "22.03", Triton: "2.20", TensorRT: "8.2.3", CUDA: "11.6.1", NotesDriver: 470, DALI: "1.11.1", MinCompute: "6.0", Indirect: TensorRT | CUDA | NotesDriver | DALI},
		{Tag: "22.04", Triton: "2.21", TensorRT: "8.2.4.2", CUDA: "11.6.2", NotesDriver: 510, DataCenterDrivers: r4xx, MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "22.05", Triton: "2.22", TensorRT: "8.2.5.1", CUDA: "11.7.0", NotesDriver: 515, DALI: "1.13.0", MinCompute: "6.0", Indirect: DALI},
		{Tag: "22.06", Triton: "2.23", TensorRT: "8.2.5.1", CUDA: "11.7.1", NotesDriver: 515, MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "22.07", Triton: "2.24", TensorRT: "8.4.1", CUDA: "11.7.1", NotesDriver: 515, DataCenterDrivers: r5xx[:3], DALI: "1.14", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "22.08", Triton: "2.25", TensorRT: "8.4.2.4", CUDA: "11.7.1", NotesDriver: 515, DALI: "1.16", MinCompute: "6.0"},
		{Tag: "22.09", Triton: "2.26", TensorRT: "8.5.0", CUDA: "11.8.0", NotesDriver: 520, DataCenterDrivers: r5xx[:4], DALI: "1.17", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "22.10", Triton: "2.27", TensorRT: "8.5.0", CUDA: "11.8", NotesDriver: 520, DALI: "1.16", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "22.11", Triton: "2.28", TensorRT: "8.5.1", CUDA: "11.8.0", NotesDriver: 520, DataCenterDrivers: r5xx[:4], DALI: "1.18", MinCompute: "6.0"},
		{Tag: "22.12", Triton: "2.29", TensorRT: "8.5.1", CUDA: "11.8.0", NotesDriver: 520, DataCenterDrivers: r5xx[:4], DALI: "1.19", ORT: "1.13.1", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "23.01", Triton: "2.30", TensorRT: "8.5.2", CUDA: "12.0", NotesDriver: 525, DALI: "1.21", MinCompute: "6.0", Unconfirmed: TensorRT | CUDA | NotesDriver},
		{Tag: "23.02", Triton: "2.31", TensorRT: "8.5.3", CUDA: "12.0", NotesDriver: 525, DALI: "1.22", MinCompute: "6.0", Unconfirmed: TensorRT | CUDA | NotesDriver},
		{Tag: "23.03", Triton: "2.32", TensorRT: "8.5.3", CUDA: "12.1", NotesDriver: 530, DALI: "1.31", MinCompute: "6.0", Unconfirmed: TensorRT | CUDA | NotesDriver},
		{Tag: "23.04", Triton: "2.33", TensorRT: "8.6.1", CUDA: "12.1.0", NotesDriver: 530, DataCenterDrivers: r5xx, DALI: "1.24", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "23.05", Triton: "2.34", TensorRT: "8.6.1", CUDA: "12.1.1", NotesDriver: 530, DALI: "1.25", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "23.06", Triton: "2.35", TensorRT: "8.6.1", CUDA: "12.1.1", NotesDriver: 530, DataCenterDrivers: r5xx, DALI: "1.26", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "23.07", Triton: "2.36", TensorRT: "8.6.1", CUDA: "12.1.1", NotesDriver: 530, DataCenterDrivers: r5xx, DALI: "1.26", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "23.08", Triton: "2.37", TensorRT: "8.6.1", CUDA: "12.2.1", NotesDriver: 535, DataCenterDrivers: []string{"450.51", "470.57", "510.47", "525.85"}, DALI: "1.26", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "23.09", Triton: "2.38", TensorRT: "8.6.1", CUDA: "12.2.1", NotesDriver: 535, DataCenterDrivers: []string{"450.51", "470.57", "510.47", "525.85", "535.86"}, DALI: "1.26", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "23.10", Triton: "2.39", TensorRT: "8.6.1", CUDA: "12.2", NotesDriver: 535, DALI: "1.30", MinCompute: "6.0", Unconfirmed: TensorRT | CUDA | NotesDriver},
		{Tag: "23.11", Triton: "2.40", TensorRT: "8.6.1", CUDA: "12.3.0", NotesDriver: 545, DALI: "1.31", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "23.12", Triton: "2.41", TensorRT: "8.6.1", CUDA: "12.3.2", NotesDriver: 545, DALI: "1.31", ORT: "1.16.3", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "24.01", Triton: "2.42", TensorRT: "8.6.1", CUDA: "12.3", NotesDriver: 545, DALI: "1.31", MinCompute: "6.0", Unconfirmed: TensorRT | CUDA | NotesDriver},
		{Tag: "24.02", Triton: "2.43", TensorRT: "8.6.3", CUDA: "12.3", NotesDriver: 545, DALI: "1.31", MinCompute: "6.0", Unconfirmed: CUDA},
		{Tag: "24.03", Triton: "2.44", TensorRT: "8.6.3", CUDA: "12.4", NotesDriver: 545, DataCenterDrivers: []string{"470.57", "525.85", "535.86"}, DALI: "1.31", MinCompute: "6.0", Unconfirmed: TensorRT | CUDA},
		{Tag: "24.04", Triton: "2.45", TensorRT: "8.6.3", CUDA: "12.4", NotesDriver: 545, DataCenterDrivers: []string{"470.57", "525.85", "535.86"}, DALI: "1.36", MinCompute: "6.0", Unconfirmed: TensorRT},
		{Tag: "24.05", Triton: "2.46", TensorRT: "10.0.1.6", CUDA: "12.4.1", NotesDriver: 545, DALI: "1.36", MinCompute: "7.0", Unconfirmed: MinCompute},
		{Tag: "24.06", Triton: "2.47", TensorRT: "10.1", CUDA: "12.5.0.23", NotesDriver: 545, DALI: "1.37.1", MinCompute: "7.0", Unconfirmed: TensorRT},
		{Tag: "24.07", Triton: "2.48", TensorRT: "10.2", CUDA: "12.5.1", NotesDriver: 555, DataCenterDrivers: r545, DALI: "1.38.0", MinCompute: "7.0", Unconfirmed: TensorRT | MinCompute},
		{Tag: "24.08", Triton: "2.49", TensorRT: "10.3", CUDA: "12.6.0", DALI: "1.39.0", ORT: "1.18.1", MinCompute: "7.0", Unconfirmed: TensorRT | MinCompute},
		{Tag: "24.09", Triton: "2.50", TensorRT: "10.4.0.26", CUDA: "12.6.1", DALI: "1.39.0", ORT: "1.19.2", MinCompute: "7.0", Unconfirmed: MinCompute},
		{Tag: "24.10", Triton: "2.51", TensorRT: "10.5", CUDA: "12.6.2", NotesDriver: 560, DataCenterDrivers: r545, DALI: "1.42.0", ORT: "1.19.2", MinCompute: "7.0", Unconfirmed: TensorRT | MinCompute},
		{Tag: "24.11", Triton: "2.52", TensorRT: "10.6", CUDA: "12.6.3", DALI: "1.42.0", ORT: "1.19.2", MinCompute: "7.0", Unconfirmed: TensorRT | MinCompute},
		{Tag: "24.12", Triton: "2.53", TensorRT: "10.7.0.23", CUDA: "12.6.3", DALI: "1.44.0", ORT: "1.20.1", MinCompute: "7.0", Unconfirmed: MinCompute},
		{Tag: "25.01", Triton: "2.54", TensorRT: "10.8.0.43", CUDA: "12.8.0.038", DALI: "1.45.0", ORT: "1.20.1", MinCompute: "7.0", Unconfirmed: MinCompute},
		{Tag: "25.02", Triton: "2.55", TensorRT: "10.8.0.43", CUDA: "12.8.0.038", DALI: "1.44.0", ORT: "1.20.1", MinCompute: "7.0", Unconfirmed: TensorRT | MinCompute},
		{Tag: "25.03", Triton: "2.56", TensorRT: "10.9.0.34", CUDA: "12.8.1.012", NotesDriver: 560, DALI: "1.44.0", ORT: "1.21.0", MinCompute: "7.5"},
		{Tag: "25.04", Triton: "2.57", TensorRT: "10.9", CUDA: "12.9.0", DALI: "1.47.0", ORT: "1.21.0", MinCompute: "7.5", Unconfirmed: TensorRT},
		{Tag: "25.05", Triton: "2.58", TensorRT: "10.10", CUDA: "12.9.0", DALI: "1.49.0", ORT: "1.22.0", MinCompute: "7.5", Unconfirmed: TensorRT},
		{Tag: "25.06", Triton: "2.59.0", TensorRT: "10.11.0.33", CUDA: "12.9", DALI: "1.49.0", ORT: "1.22.0", MinCompute: "7.5", Unconfirmed: TensorRT},
		{Tag: "25.07", Triton: "2.59.1", TensorRT: "10.11", CUDA: "12.9", DALI: "1.49.0", ORT: "1.22.0", MinCompute: "7.5", Unconfirmed: TensorRT},
		{Tag: "25.08", Triton: "2.60", TensorRT: "10.13.2", CUDA: "13.0.0.044", DALI: "1.51.2", ORT: "1.23.0", MinCompute: "7.5", Unconfirmed: TensorRT},
		{Tag: "25.09", Triton: "2.61", TensorRT: "10.13.3.9", CUDA: "13.0.1", DALI: "1.51.2", ORT: "1.23.0", MinCompute: "7.5"},
		{Tag: "25.10", Triton: "2.62", TensorRT: "10.13.3.9", CUDA: "13.0.2", DALI: "1.51.2", ORT: "1.23.1", MinCompute: "7.5"},
		{Tag: "25.11", Triton: "2.63", TensorRT: "10.14.1", CUDA: "13.0.2", DALI: "1.51.2", ORT: "1.23.2", MinCompute: "7.5", Unconfirmed: TensorRT},
		{Tag: "25.12", Triton: "2.64", TensorRT: "10.14.1.48", CUDA: "13.1.0.036", DALI: "1.51.2", ORT: "1.23.2", MinCompute: "7.5"},
		{Tag: "26.01", Triton: "2.65", TensorRT: "10.14", CUDA: "13.1.1", DALI: "1.51.2", ORT: "1.23.2", MinCompute: "7.5", Unconfirmed: TensorRT},
		{Tag: "26.02", Triton: "2.66", TensorRT: "10.15.1", CUDA: "13.1.1", DALI: "1.53.0", ORT: "1.24.1", MinCompute: "7.5", Indirect: TensorRT},
		{Tag: "26.03", Triton: "2.67", TensorRT: "10.16.0.72", CUDA: "13.2.0.046", DALI: "2.0.0", ORT: "1.24.2", MinCompute: "7.5"},
		{Tag: "26.04", Triton: "2.68", TensorRT: "10.16.1", CUDA: "13.2.1", DALI: "2.0.0", ORT: "1.24.4", MinCompute: "7.5", Indirect: TensorRT},
		{Tag: "26.05", Triton: "2.69", TensorRT: "10.16.1", CUDA: "13.2.1.009", DALI: "2.1.0", ORT: "1.24.4", MinCompute: "7.5", Unconfirmed: TensorRT},
		{Tag: "26.06", Triton: "2.70", TensorRT: "11.0", CUDA: "13.3.0", DALI: "2.1.1", ORT: "1.24.4", MinCompute: "7.5"},
		{Tag: "26.07", Triton: "2.71", TensorRT: "11.1.0.106", CUDA: "13.3.1", DALI: "2.2.0", ORT: "1.27.0", MinCompute: "7.5", Unconfirmed: DALI},
		{Tag: "26.08", Triton: "2.72", TensorRT: "11.2.1", CUDA: "13.4", DALI: "2.2.0", ORT: "1.28.0", MinCompute: "7.5", Indirect: TensorRT | CUDA | DALI},
		{Tag: "26.09", Triton: "2.73", TensorRT: "11.3", CUDA: "13.4.1", MinCompute: "7.5", Indirect: TensorRT},
		{Tag: "26.10", Triton: "2.74", TensorRT: "11.3", CUDA: "13.4.3.001", MinCompute: "7.5", Unconfirmed: TensorRT},
		{Tag: "26.11", Triton: "2.75", MinCompute: "7.5", Unconfirmed: TensorRT | CUDA | DALI | MinCompute},
	}
}
