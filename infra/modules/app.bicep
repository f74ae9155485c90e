// The function app, on Flex Consumption with a custom handler.
param name string
param location string
param tags object
param identityId string
param identityClientId string
@description('The client ids of the additional identities that crawl.')
param furtherClientIds array
@description('All identities, by resource id.')
param identities object
param storageName string
param insightsConnection string
@description('The resource id of the subnet of the app. Empty means none.')
param subnetId string
@description('App settings by name, in addition to those of this module, which they override.')
param furtherSettings object
@description('The origins whose browser pages may send requests, separated by commas. Empty means none.')
param corsOrigins string
param instanceMemory int
param mostInstances int

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

var endpoints = account.properties.primaryEndpoints
var store = '${endpoints.blob}azimg'
var own = {
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  AzureWebJobsStorage__blobServiceUri: endpoints.blob
  AzureWebJobsStorage__queueServiceUri: endpoints.queue
  AzureWebJobsStorage__tableServiceUri: endpoints.table
  AzimgStorage__credential: 'managedidentity'
  AzimgStorage__clientId: identityClientId
  AzimgStorage__blobServiceUri: endpoints.blob
  AzimgStorage__queueServiceUri: endpoints.queue
  // The first identity also accesses storage and signs in to registries.
  AZURE_CLIENT_ID: join(concat([identityClientId], furtherClientIds), ',')
  AZIMG_STORE: store
  APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnection
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${name}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource site 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'azimg' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: identities
  }
  properties: {
    serverFarmId: plan.id
    keyVaultReferenceIdentity: identityId
    httpsOnly: true
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${endpoints.blob}deployment'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: mostInstances
      }
      runtime: {
        name: 'custom'
        version: '1.0'
      }
    }
    // Flex Consumption refuses ftpsState and other members of siteConfig in some regions (error 51021:
    // microsoft/azure-pipelines-tasks#21032, Azure/terraform-azurerm-avm-res-web-site#345).
    siteConfig: {
      minTlsVersion: '1.2'
      http20Enabled: true
      // The platform answers CORS requests before they reach the program. Credentials (cookies) are not supported.
      cors: {
        allowedOrigins: empty(corsOrigins) ? [] : split(replace(corsOrigins, ' ', ''), ',')
        supportCredentials: false
      }
    }
  }
}

resource settings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: site
  name: 'appsettings'
  // Replaces all app settings, including those that were made by hand.
  properties: union(own, furtherSettings)
}

// Packages are deployed with an Entra identity. Passwords for publishing are disabled.
resource publishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = [
  for way in ['ftp', 'scm']: {
    parent: site
    name: way
    properties: {
      allow: false
    }
  }
]

output name string = site.name
output api string = 'https://${site.properties.defaultHostName}/api'
output redirect string = 'https://${site.properties.defaultHostName}/.auth/login/aad/callback'
output store string = store
