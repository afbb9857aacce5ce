package remedy

import "strings"

// PoolOverflow returns what to tell of a server whose log has the line, if that says that its pool of GPU memory is
// full: tritonserver goes on by way of the host's memory, and an H100 answered a fifth of the pictures then
// (testdata/tritonserver-gpu-stop.log). Else it is empty.
func PoolOverflow(line string) string {
	if !strings.Contains(line, "CNMEM_STATUS_OUT_OF_MEMORY") {
		return ""
	}
	return "tritonserver's pool of GPU memory is full, and tensors go by way of the host, which is slow: " +
		"give it more by --serving cuda-pool=SIZE, or lower --max-batch"
}
