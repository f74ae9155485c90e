// The roles of the app's identity on its storage and log, and of a user or group on the catalog.
param storageName string
param insightsName string
param identityPrincipalId string
param principalId string

// Blobs: shards, snapshots, the host's locks and keys, and the deployed package. Microsoft documents this role for the
// host (AzureWebJobsStorage with an identity), which creates its own containers. Deployment needs only Contributor,
// which this role includes.
var blobOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
// Queues: the host updates failed messages, and creates poison queues on demand.
var queueContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
// Tables: the host's diagnostic events.
var tableContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
// The catalog, for a user or group: `azimg runs publish` and `azimg runs verify --repair` write to it, other commands
// only read.
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource onStorage 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in [blobOwner, queueContributor, tableContributor]: {
    name: guid(account.id, identityPrincipalId, role)
    scope: account
    properties: {
      principalId: identityPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    }
  }
]

resource onInsights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, identityPrincipalId, metricsPublisher)
  scope: insights
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' existing = {
  parent: account
  name: 'default'
}

resource catalog 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' existing = {
  parent: blobs
  name: 'azimg'
}

// Only on the container of the catalog: the account also contains the deployed program, the host's keys and the queues.
resource forPerson 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(principalId)) {
  name: guid(catalog.id, principalId, blobContributor)
  scope: catalog
  properties: {
    principalId: principalId
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobContributor)
  }
}
