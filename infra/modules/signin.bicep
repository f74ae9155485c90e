// Who may call: App Service authentication with Entra ID in front of the app, or only function keys.
param appName string
@description('keys or entra')
param signIn string
@description('The client id of the app registration that callers sign in to.')
param clientId string
@description('The client ids of the applications that callers may use in addition to a browser.')
param callers array

resource site 'Microsoft.Web/sites@2024-04-01' existing = {
  name: appName
}

var entra = {
  enabled: true
  registration: {
    clientId: clientId
    // No secret: a managed identity without any role authenticates as the registration.
    clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
    openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
  }
  validation: {
    allowedAudiences: [clientId, 'api://${clientId}']
    defaultAuthorizationPolicy: {
      // Without this list, any application of the tenant is accepted with a token of its own.
      allowedApplications: concat([clientId], callers)
    }
  }
}

// Deployed in both cases: a resource that a deployment omits stays unchanged, so that the sign-in would stay on.
resource authentication 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: site
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: signIn == 'entra'
    }
    globalValidation: {
      requireAuthentication: signIn == 'entra'
      unauthenticatedClientAction: 'RedirectToLoginPage'
      redirectToProvider: 'azureactivedirectory'
      // It returns the age of the catalog to monitoring, which has no sign-in.
      excludedPaths: ['/api/health']
    }
    httpSettings: {
      requireHttps: true
    }
    identityProviders: {
      azureActiveDirectory: signIn == 'entra' ? entra : { enabled: false }
    }
    login: {
      // azimg never acts on behalf of a caller, so callers' tokens are not stored.
      tokenStore: {
        enabled: false
      }
    }
  }
}
