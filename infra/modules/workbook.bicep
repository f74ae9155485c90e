// A workbook of runs: published runs with their gaps, the age of the catalog, throttled requests, failed invocations.
param location string
param tags object
param insightsId string

var logLines = 'traces | where message startswith "{" | extend line = todynamic(message) | extend fields = line.fields, about = line.spans[0]'

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'azimg-runs')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'azimg: runs'
    category: 'workbook'
    sourceId: insightsId
    serializedData: string({
      version: 'Notebook/1.0'
      items: [
        {
          type: 3
          name: 'published'
          content: {
            version: 'KqlItem/1.0'
            title: 'Published runs'
            size: 0
            queryType: 0
            resourceType: 'microsoft.insights/components'
            timeContext: { durationMs: 2592000000 }
            query: '${logLines} | where fields.message == "published" | project timestamp, run = tostring(about.run), state = tostring(fields.state), done = tolong(fields.done), denied = tolong(fields.denied), failed = tolong(fields.failed), carried = tolong(fields.carried) | order by timestamp desc'
          }
        }
        {
          type: 3
          name: 'age'
          content: {
            version: 'KqlItem/1.0'
            title: 'Age of the catalog, in hours'
            size: 0
            queryType: 0
            resourceType: 'microsoft.insights/components'
            visualization: 'timechart'
            timeContext: { durationMs: 604800000 }
            query: '${logLines} | where fields.message == "snapshot age" | project timestamp, hours = toreal(fields.age_s) / 3600'
          }
        }
        {
          type: 3
          name: 'throttled'
          content: {
            version: 'KqlItem/1.0'
            title: 'Requests to Azure, and those it refused for quota, by instance'
            size: 0
            queryType: 0
            resourceType: 'microsoft.insights/components'
            visualization: 'timechart'
            timeContext: { durationMs: 86400000 }
            query: '${logLines} | where fields.message == "request traffic" | summarize requests = sum(tolong(fields.requests)), throttled = sum(tolong(fields.throttled)), waited_s = sum(tolong(fields.waited_ms)) / 1000 by bin(timestamp, 10m), cloud_RoleInstance'
          }
        }
        {
          type: 3
          name: 'failures'
          content: {
            version: 'KqlItem/1.0'
            title: 'Invocations that failed'
            size: 0
            queryType: 0
            resourceType: 'microsoft.insights/components'
            timeContext: { durationMs: 86400000 }
            query: '${logLines} | where line.level in ("ERROR", "WARN") | project timestamp, function = tostring(about.function), run = tostring(about.run), item = tostring(about.item), what = tostring(fields.message), error = tostring(fields.error) | order by timestamp desc'
          }
        }
      ]
    })
  }
}
