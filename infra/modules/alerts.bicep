// Alerts for operators. Each queries log lines that the code (src/functions/traffic_report.rs) or the Functions host
// writes. docs/operations.md describes the response to each.
param name string
param location string
param tags object
param insightsId string
param email string

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: 'ag-${name}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'azimg'
    emailReceivers: [
      {
        name: 'azimg'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

// A log line of the handler: JSON, with its values in `fields`.
var logLines = 'traces | where message startswith "{" | extend line = todynamic(message) | extend fields = line.fields'

var rules = [
  {
    name: 'poison'
    severity: 2
    says: 'A message was given up after all deliveries. Its item is failed in the coverage of its run.'
    every: 'PT15M'
    window: 'PT15M'
    // Only lines of the host: lines of azimg are JSON, and may contain untrusted text.
    query: 'traces | where message has "MaxDequeueCount" and message !startswith "{"'
  }
  {
    name: 'too-old'
    severity: 1
    says: 'No run was complete for two days.'
    every: 'PT1H'
    window: 'PT1H'
    query: '${logLines} | where fields.message == "snapshot age" | where isnull(fields.complete_age_s) or toint(fields.complete_age_s) > 172800'
  }
  {
    name: 'partial'
    severity: 3
    says: 'A run was published with gaps: a scope was denied, failed or carried over.'
    every: 'PT1H'
    window: 'PT1H'
    query: '${logLines} | where fields.message == "published" and fields.state == "partial"'
  }
  {
    name: 'throttled'
    severity: 3
    says: 'More than one request in twenty was throttled: another client uses the same quota.'
    every: 'PT1H'
    window: 'PT1H'
    query: '${logLines} | where fields.message == "request traffic" | summarize requests = sum(tolong(fields.requests)), throttled = sum(tolong(fields.throttled)) | where requests > 1000 and throttled * 20 > requests'
  }
  {
    name: 'silent'
    severity: 1
    says: 'The sweep wrote no log line for an hour: the app does not run.'
    every: 'PT1H'
    window: 'PT1H'
    query: '${logLines} | where fields.message == "snapshot age" | summarize lines = count() | where lines == 0'
  }
]

resource alerts 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for rule in rules: {
    name: 'azimg-${rule.name}'
    location: location
    tags: tags
    properties: {
      displayName: 'azimg: ${rule.name}'
      description: rule.says
      severity: rule.severity
      enabled: true
      scopes: [insightsId]
      evaluationFrequency: rule.every
      windowSize: rule.window
      autoMitigate: true
      criteria: {
        allOf: [
          {
            query: rule.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: empty(email) ? [] : [people.id]
      }
    }
  }
]
