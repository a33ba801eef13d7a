// Search without a server: browsers start no worker for pages opened from a file. There, and only there, a hidden
// frame stands in for it: it loads the script of the worker, and messages pass between the two windows.
if (location.protocol === "file:") {
  class IFrameWorker extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inside = frame.contentWindow
      inside.document.open()
      inside.document.write("<!doctype html><body></body>")
      inside.document.close()
      const load = address =>
        new Promise((resolve, reject) => {
          const script = inside.document.createElement("script")
          script.onload = resolve
          script.onerror = reject
          script.src = address
          inside.document.body.appendChild(script)
        })
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      inside.importScripts = (...addresses) =>
        addresses.reduce((before, address) => before.then(() => load(address)), Promise.resolve())
      this.frame = frame
      this.loaded = load(new URL(url, document.baseURI).href)
    }
    postMessage(data) {
      this.loaded.then(() =>
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
      )
    }
    terminate() {
      this.frame.remove()
    }
  }
  window.IFrameWorker = IFrameWorker
  window.Worker = IFrameWorker
}
